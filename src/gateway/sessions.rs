//! Which model serves which conversation: bounded in number and in time, in memory.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;

use super::RequestInfo;
use crate::{
    policy::session::{Pinned, Turn},
    protocol::incoming::Incoming,
};

/// Conversations remembered (chosen: some ten megabytes).
const CAPACITY: usize = 65_536;
/// How long one is remembered after its last turn (chosen: providers keep a prompt in their cache
/// for five minutes to an hour).
const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The conversations of one gateway.
#[derive(Debug)]
pub struct Sessions(Cache<u64, (Pinned, Instant)>);

impl Default for Sessions {
    fn default() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

impl Sessions {
    /// What is known of a conversation that has begun.
    pub fn find(&self, key: u64, now: Instant) -> Option<Pinned> {
        let (pinned, at) = self.0.get(&key)?;
        (now.saturating_duration_since(at) < LIFETIME).then_some(pinned)
    }

    /// A model serves a conversation's turn.
    pub fn remember(&self, key: u64, pinned: Pinned, now: Instant) {
        self.0.insert(key, (pinned, now));
    }
}

/// A conversation's state for other gateways.
pub fn to_text(pinned: &Pinned) -> String {
    format!("{} {} {}", pinned.tier, pinned.prompt_tokens, pinned.model)
}

/// Reads what [`to_text`] writes.
pub fn from_text(text: &str) -> Option<Pinned> {
    let mut parts = text.splitn(3, ' ');
    Some(Pinned {
        tier: parts.next()?.parse().ok()?,
        prompt_tokens: parts.next()?.parse().ok()?,
        model: parts.next()?.to_owned(),
    })
}

/// The conversation's key under a policy: the caller's name for it, else what does not change
/// while it grows: system prompt, tools and first user message (PROTOCOLS, section 3). An end
/// user may have several conversations, so their name only counts together with the beginning.
pub fn key(policy: &str, request: &Incoming, info: &RequestInfo) -> u64 {
    let mut hasher = DefaultHasher::new();
    policy.hash(&mut hasher);
    if let Some(session) = &info.session {
        session.hash(&mut hasher);
        return hasher.finish();
    }
    request.user.hash(&mut hasher);
    for message in &request.messages {
        message.role.hash(&mut hasher);
        for text in message.content.texts() {
            text.hash(&mut hasher);
        }
        if message.role == "user" {
            break;
        }
    }
    if let Some(tools) = request.field("tools") {
        tools.get().hash(&mut hasher);
    }
    hasher.finish()
}

/// What the request's last turn is; `None` when the conversation only begins, so that a trivial
/// first turn pins nothing.
pub fn turn(request: &Incoming) -> Option<Turn> {
    if !request.messages.iter().any(|message| message.role == "assistant") {
        return None;
    }
    Some(if request.ends_with_tool_result { Turn::ToolResult } else { Turn::Instruction })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_conversation_is_told_as_it_is() {
        let pinned = super::Pinned { model: "a model".to_owned(), tier: 1, prompt_tokens: 7 };
        assert_eq!(super::from_text(&super::to_text(&pinned)), Some(pinned));
        assert_eq!(super::from_text("x 7 m"), None);
    }

    use super::*;

    #[test]
    fn conversations_are_forgotten_after_an_hour_and_when_there_are_too_many() {
        let pinned = |model: &str| Pinned { model: model.to_owned(), tier: 0, prompt_tokens: 1 };
        let sessions = Sessions::default();
        let start = Instant::now();
        sessions.remember(1, pinned("a"), start);
        let model = |after| sessions.find(1, start + after).map(|pinned| pinned.model);
        assert_eq!(model(LIFETIME - Duration::from_secs(1)).as_deref(), Some("a"));
        assert_eq!(model(LIFETIME), None);
        for key in 0..2 * CAPACITY as u64 {
            sessions.remember(key, pinned("b"), start);
        }
        assert!(sessions.0.len() <= CAPACITY);
    }
}
