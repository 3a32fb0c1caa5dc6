//! Which model serves which conversation: bounded in number and in time, in memory.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;

use crate::{
    policy::session::{Pinned, Turn},
    protocol::{chat::Message, incoming::Incoming},
};

/// Names of conversations remembered (chosen: some twenty megabytes). Each has two, and one more for
/// each of its instructions.
const CAPACITY: usize = 196_608;
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

/// What a conversation is known by, of one caller under one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// What does not change while it grows: the caller's name for it, system prompt, tools and
    /// first user message. A session's side questions begin otherwise.
    beginning: u64,
    /// The caller's name for it alone (PROTOCOLS, section 3), for one whose beginning was cut off.
    name: Option<u64>,
    /// The beginning and the last thing that a person said, with its place.
    instruction: u64,
    /// The same of what was said before that: many conversations begin alike.
    before: Option<u64>,
}

impl Keys {
    /// The keys of this request's conversation: `caller` is the id of the caller's key, `session`
    /// the name in a header.
    pub fn of(
        policy: &str,
        caller: Option<&str>,
        session: Option<&str>,
        request: &Incoming,
    ) -> Self {
        let mut hasher = DefaultHasher::new();
        policy.hash(&mut hasher);
        caller.hash(&mut hasher);
        let name = session.or(request.user.as_deref());
        name.hash(&mut hasher);
        let name = name.map(|_| hasher.finish());
        for message in &request.messages {
            add(message, &mut hasher);
            if message.role == "user" {
                break;
            }
        }
        if let Some(tools) = request.field("tools") {
            tools.get().hash(&mut hasher);
        }
        let beginning = hasher.finish();
        let said = |message: &Message| {
            message.role == "user" && message.content.texts().any(|text| !text.trim().is_empty())
        };
        let messages = request.messages.iter().enumerate().rev();
        let mut instructions =
            messages.filter(|(_, message)| said(message)).map(|(at, message)| {
                let mut hasher = hasher.clone();
                at.hash(&mut hasher);
                add(message, &mut hasher);
                hasher.finish()
            });
        let instruction = instructions.next().unwrap_or(beginning);
        Self { beginning, name, instruction, before: instructions.next() }
    }

    /// Those under which a turn is looked for, the first that is known first, and as what it counts
    /// there: a tool's answer moves nothing where its instruction was decided, and nowhere else.
    pub fn searched(self, turn: Turn) -> Vec<(u64, Turn)> {
        let looped = (turn == Turn::ToolResult).then_some((self.instruction, Turn::ToolResult));
        let whole = [self.before, Some(self.beginning), self.name].into_iter().flatten();
        looped.into_iter().chain(whole.map(|key| (key, Turn::Instruction))).collect()
    }

    /// The one that is the same in all turns.
    pub fn lasting(self) -> u64 {
        self.beginning
    }

    /// All of them.
    pub fn all(self) -> impl Iterator<Item = u64> {
        [self.beginning, self.instruction].into_iter().chain(self.name)
    }
}

fn add(message: &Message, hasher: &mut DefaultHasher) {
    message.role.hash(hasher);
    for text in message.content.texts() {
        text.hash(hasher);
    }
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
    use super::*;
    use crate::protocol::neutral::Surface;

    #[test]
    fn a_conversation_is_told_as_it_is() {
        let pinned = Pinned { model: "a model".to_owned(), tier: 1, prompt_tokens: 7 };
        assert_eq!(from_text(&to_text(&pinned)), Some(pinned));
        assert_eq!(from_text("x 7 m"), None);
    }

    #[test]
    fn conversations_of_two_keys_policies_or_names_are_never_one() {
        let keys = |policy, caller, session, body: &str| {
            let request = Incoming::parse(Surface::OpenAiChat, body.as_bytes()).unwrap();
            Keys::of(policy, caller, session, &request)
        };
        let body = r#"{"model":"a","messages":[{"role":"user","content":"Hi"}]}"#;
        let one = keys("p", Some("a"), Some("s"), body);
        assert_eq!(keys("p", Some("a"), Some("s"), body), one);
        for other in [
            keys("p", Some("b"), Some("s"), body),
            keys("p", None, Some("s"), body),
            keys("q", Some("a"), Some("s"), body),
            keys("p", Some("a"), Some("t"), body),
            keys("p", Some("a"), None, body),
        ] {
            assert!(one.all().all(|key| other.all().all(|other| other != key)), "{other:?}");
        }
        let named =
            keys("p", None, None, &body.replace("\"messages\"", "\"user\":\"u\",\"messages\""));
        assert_eq!(named.name, keys("p", None, Some("u"), body).name);
        let later = body.replace("\"Hi\"}", "\"Hi\"},{\"role\":\"assistant\",\"content\":\"x\"},{\"role\":\"user\",\"content\":\"y\"}");
        let later = keys("p", Some("a"), Some("s"), &later);
        assert_eq!((later.beginning, later.name), (one.beginning, one.name));
        assert_ne!(later.instruction, one.instruction);
        assert_eq!((later.before, one.before), (Some(one.instruction), None));
    }

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
