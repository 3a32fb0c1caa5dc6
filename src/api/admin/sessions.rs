//! Sessions of browsers: who is logged in, for how long, and by which token.
//!
//! They are in memory alone: a restart ends them, and so does the change of the token that opened
//! them. What a browser holds is kept only as its hash.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::access::Access;
use crate::{
    config::Token,
    ledger::{
        now_ms,
        secret::{self, NoRandomness, same},
    },
};

/// How long a session lasts without a request (OWASP, "Session Management": 15 to 30 minutes).
pub(super) const IDLE: Duration = Duration::from_secs(30 * 60);
/// How long it lasts at most (the same source: a working day of four to eight hours).
pub(super) const LIFETIME: Duration = Duration::from_secs(8 * 60 * 60);
/// Sessions of one access (chosen: more people than run a gateway). Beyond it the one that was
/// used least recently ends: viewers cannot end those of others.
const MAX_SESSIONS: usize = 256;

/// One session.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) access: Access,
    /// The token that opened it.
    pub(super) token: Token,
    /// When it ends at the latest, in milliseconds since 1970.
    pub(super) ends_ms: i64,
    begun: Instant,
    used: Instant,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= IDLE
            || now.saturating_duration_since(self.begun) >= LIFETIME
    }
}

/// All that go on, by the SHA-256 of what the browser holds.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

impl Sessions {
    /// Begins a session; what the browser shows from now on: 256 random bits as base64url.
    pub(super) fn begin(
        &self,
        access: Access,
        token: Token,
        now: Instant,
    ) -> Result<(String, Session), NoRandomness> {
        let shown = URL_SAFE_NO_PAD.encode(secret::random_bytes()?);
        let ends_ms = now_ms().saturating_add(LIFETIME.as_millis() as i64);
        let session = Session { access, token, ends_ms, begun: now, used: now };
        let mut table = self.table();
        let is_of_access = |session: &Session| session.access == access;
        if table.values().filter(|one| is_of_access(one)).count() >= MAX_SESSIONS {
            table.retain(|_, session| !session.is_over(now));
            let others = table.iter().filter(|(_, session)| is_of_access(session));
            let others: Vec<_> = others.map(|(hash, session)| (session.used, *hash)).collect();
            if others.len() >= MAX_SESSIONS
                && let Some((_, idlest)) = others.into_iter().min()
            {
                table.remove(&idlest);
            }
        }
        table.insert(hash(&shown), session.clone());
        Ok((shown, session))
    }

    /// The session of a browser that shows this, which counts as used, if its token is still
    /// `in_force`.
    pub(super) fn find(
        &self,
        shown: &str,
        now: Instant,
        in_force: impl FnOnce(&Session) -> bool,
    ) -> Option<Session> {
        let mut table = self.table();
        let session = table.get_mut(&hash(shown))?;
        if session.is_over(now) || !in_force(session) {
            table.remove(&hash(shown));
            return None;
        }
        session.used = now;
        Some(session.clone())
    }

    /// Ends a session.
    pub(super) fn end(&self, shown: &str) {
        self.table().remove(&hash(shown));
    }

    fn table(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of 256 random bits no salt is needed: there is nothing to guess from.
fn hash(shown: &str) -> [u8; 32] {
    Sha256::digest(shown.as_bytes()).into()
}

/// What a page must repeat in `x-csrf-token`: an HMAC under what the browser holds, which the page
/// itself cannot read (OWASP, "Cross-Site Request Forgery Prevention": tokens bound to a session).
pub(super) fn csrf_token(shown: &str) -> String {
    URL_SAFE_NO_PAD.encode(secret::hash(shown.as_bytes(), "x-csrf-token"))
}

/// Whether a page repeated it, in a time that does not tell where it is wrong.
pub(super) fn is_csrf_token(shown: &str, repeated: &str) -> bool {
    same(csrf_token(shown).as_bytes(), repeated.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(sessions: &Sessions, access: Access, now: Instant) -> String {
        sessions.begin(access, Token::new("0123456789abcdef"), now).unwrap().0
    }

    #[test]
    fn a_session_ends_when_nobody_uses_it_and_after_a_day_at_the_latest() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let minutes = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let (idle, used) =
            (begin(&sessions, Access::Read, start), begin(&sessions, Access::Change, start));
        let lives = |shown: &str, at| sessions.find(shown, at, |_| true).is_some();
        assert!(idle.len() == 43 && idle != used);
        for minute in (0..480).step_by(29) {
            assert!(lives(&used, minutes(minute)), "{minute}");
        }
        assert!(!lives(&idle, minutes(30)) && !lives(&used, minutes(480)));
        assert!(!lives(&used, start), "what is over does not come back");
    }

    #[test]
    fn a_session_ends_by_its_holder_or_with_its_token() {
        let sessions = Sessions::default();
        let now = Instant::now();
        let (one, other) =
            (begin(&sessions, Access::Read, now), begin(&sessions, Access::Read, now));
        sessions.end(&one);
        assert!(sessions.find(&one, now, |_| true).is_none());
        assert!(sessions.find(&other, now, |_| false).is_none());
        assert!(sessions.find(&other, now, |_| true).is_none());
    }

    #[test]
    fn too_many_sessions_end_the_idlest_of_the_same_access() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let master = begin(&sessions, Access::Change, start);
        let viewers: Vec<_> = (0..=MAX_SESSIONS as u64)
            .map(|second| begin(&sessions, Access::Read, start + Duration::from_secs(second)))
            .collect();
        let now = start + Duration::from_secs(MAX_SESSIONS as u64);
        let lives = |shown: &str| sessions.find(shown, now, |_| true).is_some();
        assert!(lives(&master) && !lives(&viewers[0]) && lives(&viewers[1]));
        assert_eq!(sessions.table().len(), MAX_SESSIONS + 1);
    }

    #[test]
    fn a_csrf_token_belongs_to_one_session() {
        let token = csrf_token("one");
        assert!(is_csrf_token("one", &token) && !is_csrf_token("other", &token));
        assert!(!is_csrf_token("one", "") && !is_csrf_token("one", &token[1..]));
    }
}
