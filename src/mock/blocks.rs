//! Which content block of a stream is open: Anthropic, Bedrock, Cohere and the Responses API
//! announce where each begins and ends.

use super::answer::{Answer, Piece};
use super::play::Event;

/// A part of an answer that is one block, or one output item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    Reasoning,
    Text,
    /// The call of that number.
    Call(usize),
}

impl Block {
    /// The block that an event writes into; `None` for events outside blocks.
    pub fn of(event: Event, answer: &Answer) -> Option<Self> {
        match event {
            Event::Reasoning { .. } => Some(Self::Reasoning),
            Event::Huge { .. } => Some(Self::Text),
            Event::Content { chunk, .. } => Some(match answer.piece(chunk) {
                Some(Piece::CallHead { call } | Piece::CallArguments { call, .. }) => {
                    Self::Call(*call)
                }
                _ => Self::Text,
            }),
            _ => None,
        }
    }
}

/// A block and its place in the answer, from 0.
pub(super) type Placed = (Block, usize);

/// Follows a stream. Blocks never interleave and their places rise by one.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    open: Option<Placed>,
    begun: usize,
}

impl Blocks {
    /// The open block.
    pub fn open(&self) -> Option<Placed> {
        self.open
    }

    /// Enters `block`: what that closes and what it opens; nothing when it is open already.
    pub fn enter(&mut self, block: Block) -> (Option<Placed>, Option<Placed>) {
        if self.open.is_some_and(|(open, _)| open == block) {
            return (None, None);
        }
        let closed = self.close();
        self.open = Some((block, self.begun));
        self.begun += 1;
        (closed, self.open)
    }

    /// Closes the open block.
    pub fn close(&mut self) -> Option<Placed> {
        self.open.take()
    }
}
