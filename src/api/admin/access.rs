//! Who may use the admin API: a token in `Authorization: Bearer …`, or a browser's session.
//!
//! Handlers take [`Viewer`] to read and [`Master`] to change, as their first argument, so that
//! nothing of a stranger's request is looked at. Wrong tokens are counted by address.
//!
//! A browser adds a cookie to requests that somebody else's page makes, so that a change by cookie
//! must also repeat the session's token in `x-csrf-token`, and where the browser says whose page
//! it was (`Sec-Fetch-Site`, else `Origin`), that must be this one.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};

use super::{
    Desk,
    error::AdminError,
    sessions::{Session, is_csrf_token},
};
use crate::{
    api::{
        headers::bearer,
        visitor::{address, came_encrypted},
    },
    config::{AdminConfig, Token},
    gateway::Gateway,
    ledger::{now_ms, store::Actor},
};

/// The cookie of a session.
pub(super) const COOKIE: &str = "weighbridge_session";

/// Wrong tokens from an address in [`WINDOW`], after which it is not listened to (chosen: a
/// person's slips, and no way to try tokens).
const MAX_FAILURES: u32 = 10;
/// The time over which they are counted, from the first.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose failures are remembered (chosen: under 100 KB). Beyond it the oldest is
/// forgotten.
const MAX_ADDRESSES: usize = 1_024;

/// A caller who may read.
pub(super) struct Viewer;

/// A caller who may change things.
pub(super) struct Master {
    by: &'static str,
}

impl Master {
    /// Who is written down for a change.
    pub(super) fn actor(&self) -> Actor {
        Actor { name: self.by.to_owned(), now_ms: now_ms() }
    }
}

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Change,
}

impl Access {
    /// The token that opens this much, by the configuration in force.
    fn token(self, admin: Option<&AdminConfig>) -> Option<&Token> {
        match self {
            Self::Read => admin?.viewer.as_ref(),
            Self::Change => admin?.master.as_ref(),
        }
    }
}

impl FromRequestParts<Desk> for Viewer {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, AdminError> {
        admit(parts, desk).map(|_| Self)
    }
}

impl FromRequestParts<Desk> for Master {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, AdminError> {
        match admit(parts, desk)? {
            (Access::Change, by) => Ok(Self { by }),
            (Access::Read, _) => Err(AdminError::ReadOnly),
        }
    }
}

/// What the request's token or session opens, and who it is in the audit log.
fn admit(parts: &Parts, desk: &Desk) -> Result<(Access, &'static str), AdminError> {
    let stranger = Stranger::new(parts, desk)?;
    if let Some(shown) = bearer(&parts.headers) {
        let opened = stranger.show(desk, shown).map(|(access, _)| (access, "admin"));
        return opened.map_err(|error| match error {
            AdminError::WrongToken(_) => AdminError::WrongToken("authorization"),
            other => other,
        });
    }
    match member(parts, desk, stranger) {
        Ok(member) => Ok((member.session.access, "admin session")),
        Err(AdminError::NoSession) if cookie(parts).is_none() => Err(AdminError::NoToken),
        Err(error) => Err(error),
    }
}

/// Somebody who is listened to, and has shown nothing yet.
pub(super) struct Stranger {
    address: Option<IpAddr>,
    is_encrypted: bool,
}

impl FromRequestParts<Desk> for Stranger {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, AdminError> {
        let stranger = Self::new(parts, desk)?;
        if is_of_another_site(parts) { Err(AdminError::CrossSite) } else { Ok(stranger) }
    }
}

impl Stranger {
    fn new(parts: &Parts, desk: &Desk) -> Result<Self, AdminError> {
        let gateway = desk.gateway();
        let trusted = gateway.config().server.trusted_proxies.as_slice();
        let address = address(parts, trusted);
        // Who has failed too often is not listened to even with the right token: it would say so.
        if let Some(wait) = desk.logins.blocked_for(address, Instant::now()) {
            return Err(AdminError::TooManyFailures(wait));
        }
        Ok(Self { address, is_encrypted: desk.is_encrypted || came_encrypted(parts, trusted) })
    }

    /// What this token opens. A wrong one is counted.
    pub(super) fn show(&self, desk: &Desk, shown: &str) -> Result<(Access, Token), AdminError> {
        let gateway = desk.gateway();
        let admin = gateway.config().admin.as_ref();
        for access in [Access::Change, Access::Read] {
            if let Some(token) = access.token(admin).filter(|token| token.is(shown)) {
                return Ok((access, token.clone()));
            }
        }
        desk.logins.failed(self.address, Instant::now());
        tracing::warn!(address = self.address(), "a wrong admin token");
        Err(AdminError::WrongToken("token"))
    }

    /// For the log.
    pub(super) fn address(&self) -> Option<impl tracing::Value> {
        self.address.map(tracing::field::display)
    }

    /// Whether the caller speaks TLS, to this gateway or to a trusted proxy.
    pub(super) fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }
}

/// A browser with a session.
pub(super) struct Member {
    /// What its cookie says.
    pub(super) shown: String,
    pub(super) session: Session,
    /// Whether it speaks TLS.
    pub(super) is_encrypted: bool,
}

impl FromRequestParts<Desk> for Member {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, AdminError> {
        member(parts, desk, Stranger::new(parts, desk)?)
    }
}

/// The cookie's session, if the request may be its browser's own wish.
fn member(parts: &Parts, desk: &Desk, stranger: Stranger) -> Result<Member, AdminError> {
    let shown = cookie(parts).ok_or(AdminError::NoSession)?;
    let gateway = desk.gateway();
    let session = desk.sessions.find(shown, Instant::now(), |session| in_force(session, &gateway));
    let session = session.ok_or(AdminError::NoSession)?;
    if !parts.method.is_safe() {
        if is_of_another_site(parts) {
            return Err(AdminError::CrossSite);
        }
        let repeated = parts.headers.get("x-csrf-token").map(|token| token.to_str());
        if !repeated.is_some_and(|token| is_csrf_token(shown, token.unwrap_or_default())) {
            return Err(AdminError::NoCsrfToken);
        }
    }
    Ok(Member { shown: shown.to_owned(), session, is_encrypted: stranger.is_encrypted })
}

fn in_force(session: &Session, gateway: &Gateway) -> bool {
    let token = session.access.token(gateway.config().admin.as_ref());
    token.is_some_and(|token| *token == session.token)
}

/// The session's cookie. HTTP/2 may send a line for each cookie (RFC 9113 §8.2.3).
fn cookie(parts: &Parts) -> Option<&str> {
    let lines = parts.headers.get_all(header::COOKIE).into_iter();
    let mut cookies = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    cookies.find_map(|cookie| match cookie.trim().split_once('=') {
        Some((COOKIE, shown)) => Some(shown),
        _ => None,
    })
}

/// Whether a browser says that another site's page makes this request (Fetch Metadata; browsers
/// without it name an origin, which must be the host that was asked). Programs say neither.
fn is_of_another_site(parts: &Parts) -> bool {
    let text = |name| parts.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    let Some(origin) = text("origin") else { return false };
    let asked = parts.uri.authority().map(|authority| authority.as_str()).or_else(|| text("host"));
    let host = origin.split_once("://").map(|(_, host)| host);
    !matches!((host, asked), (Some(host), Some(asked)) if host.eq_ignore_ascii_case(asked))
}

/// Failures by address. An address that nobody knows counts as one address.
#[derive(Debug, Default)]
pub(super) struct Logins(Mutex<HashMap<Option<IpAddr>, Failures>>);

#[derive(Debug, Clone, Copy)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Logins {
    /// How long the address is not listened to; `None` when it is.
    fn blocked_for(&self, address: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = table.get(&address.map(network))?;
        let left = WINDOW.checked_sub(now.saturating_duration_since(failures.since))?;
        (failures.count >= MAX_FAILURES && !left.is_zero()).then_some(left)
    }

    fn failed(&self, address: Option<IpAddr>, now: Instant) {
        let address = address.map(network);
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |failures: &Failures| now.saturating_duration_since(failures.since) >= WINDOW;
        if table.len() >= MAX_ADDRESSES && !table.contains_key(&address) {
            table.retain(|_, failures| !is_over(failures));
            let oldest = table.iter().min_by_key(|(_, failures)| failures.since);
            if let Some((&oldest, _)) = oldest
                && table.len() >= MAX_ADDRESSES
            {
                table.remove(&oldest);
            }
        }
        let failures = table.entry(address).or_insert(Failures { since: now, count: 0 });
        if is_over(failures) {
            *failures = Failures { since: now, count: 0 };
        }
        failures.count += 1;
    }
}

/// What counts as one address: of IPv6 the /64 network, all of which one subscriber has (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_left_waiting_after_ten_failures_in_a_minute() {
        let logins = Logins::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let bad: Option<IpAddr> = "2001:db8::1".parse().ok();
        for second in 0..10 {
            assert_eq!(logins.blocked_for(bad, at(second)), None);
            logins.failed(bad, at(second));
        }
        assert_eq!(logins.blocked_for(bad, at(15)), Some(Duration::from_secs(45)));
        let same_network = "2001:db8::ffff".parse().ok();
        assert_eq!(logins.blocked_for(same_network, at(15)), Some(Duration::from_secs(45)));
        assert_eq!(logins.blocked_for("2001:db8:0:1::1".parse().ok(), at(15)), None);
        assert_eq!(logins.blocked_for(bad, at(60)), None);
        logins.failed(bad, at(61));
        assert_eq!(logins.blocked_for(bad, at(61)), None, "the count begins anew");
    }

    #[test]
    fn the_table_of_failures_stays_bounded() {
        let logins = Logins::default();
        let start = Instant::now();
        for number in 0..3 * MAX_ADDRESSES as u32 {
            let address = IpAddr::from(number.to_be_bytes());
            logins.failed(Some(address), start + Duration::from_millis(number.into()));
        }
        assert_eq!(logins.0.lock().unwrap().len(), MAX_ADDRESSES);
    }
}
