//! Which model signed which reasoning, where the signature itself does not say.
//!
//! Between one protocol on both sides bytes pass, signatures among them, and a caller's next turn
//! may go to another model, which refuses them. So the signatures that pass are remembered, as
//! hashes; what is not known, after a restart or beyond the bound, passes as it came. What crosses
//! protocols says itself who made it ([`Signature::write`]).

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use quick_cache::sync::Cache;

use crate::protocol::{
    incoming::Incoming,
    neutral::{Conversation, PartBody, Signature, Surface},
};

/// Signatures remembered (chosen: some ten megabytes). A maker never changes, so none grows old;
/// the ones used least make room.
const CAPACITY: usize = 131_072;

/// The makers of the signatures that passed through one gateway.
#[derive(Debug)]
pub struct Makers(Cache<u64, Arc<str>>);

impl Default for Makers {
    fn default() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

impl Makers {
    /// A signature passes to a caller; `model` is the name under which its maker was asked.
    pub fn note(&self, made: &Signature, model: &str) {
        self.0.insert(hash(&made.value), Arc::from(model));
    }

    /// The conversation with the makers named, if it holds reasoning that another model than
    /// `model` signed; `None` where it can go as it came.
    pub fn named(&self, request: &Incoming, model: &str) -> Option<Conversation> {
        if !matches!(request.surface, Surface::Anthropic | Surface::OpenAiResponses) {
            return None;
        }
        let conversation = request.conversation().ok()?;
        let mut parts = conversation.turns.iter().flat_map(|turn| &turn.parts);
        let is_others = |body: &PartBody| {
            signature(body).and_then(|made| self.maker(made)).is_some_and(|maker| &*maker != model)
        };
        if !parts.any(|part| is_others(&part.body)) {
            return None;
        }
        let mut named = conversation.clone();
        for part in named.turns.iter_mut().flat_map(|turn| &mut turn.parts) {
            let (PartBody::Thinking { signature: Some(made), .. }
            | PartBody::RedactedThinking(made)) = &mut part.body
            else {
                continue;
            };
            if let Some(maker) = self.maker(made) {
                made.maker.model = Some(maker.to_string());
            }
        }
        Some(named)
    }

    /// The maker of a signature that does not say.
    fn maker(&self, made: &Signature) -> Option<Arc<str>> {
        if made.maker.model.is_some() {
            return None;
        }
        self.0.get(&hash(&made.value))
    }
}

fn signature(body: &PartBody) -> Option<&Signature> {
    match body {
        PartBody::Thinking { signature, .. } => signature.as_ref(),
        PartBody::RedactedThinking(made) => Some(made),
        _ => None,
    }
}

fn hash(value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
