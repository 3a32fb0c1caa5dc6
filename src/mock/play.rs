//! The order of events in a streamed answer: where content goes, and where it goes wrong.
//!
//! [`play`] turns an answer and its directives into [`Cue`]s, without knowing a wire format; the
//! dialect renders each [`Event`] and [`super::reply`] puts the bytes on the wire. Lazy, because
//! an answer may be endless.

use std::sync::Arc;

use super::answer::Answer;
use super::directives::{Directives, UsageMode};

/// One thing that happens in a stream, for a dialect to render.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A choice begins: the role.
    Open { choice: u32 },
    /// One chunk of reasoning.
    Reasoning { choice: u32 },
    /// One chunk with this many bytes of content.
    Huge { bytes: usize },
    /// Content chunk number `chunk` of the answer.
    Content { choice: u32, chunk: usize },
    /// A choice ends: the finish reason.
    Finish { choice: u32 },
    /// The chunk with the usage alone.
    Usage,
    /// The end is announced.
    Done,
    /// A frame of malformed JSON.
    Malformed,
    /// A frame with an error object.
    Failure,
    /// Bytes that are no frame.
    Noise,
}

/// What the player does next. Nothing follows after `Hold`, `Cut` and `Close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cue {
    /// Write this.
    Event(Event),
    /// Send nothing more and keep the connection.
    Hold,
    /// Break the connection.
    Cut,
    /// End the body as if all had been said.
    Close,
}

/// The cues of one answer. `wants_usage`: the caller asked for usage in the stream.
pub(super) fn play(
    answer: &Arc<Answer>,
    directives: &Directives,
    wants_usage: bool,
) -> impl Iterator<Item = Cue> + Send + use<> {
    let choices = answer.choices;
    let last = if directives.endless { usize::MAX } else { answer.chunks };
    let mishaps = Mishaps::new(directives, last);
    let usage_is_own = matches!(directives.usage, UsageMode::Own | UsageMode::Every);

    let opening = (0..choices).map(|choice| Event::Open { choice });
    let reasoning = (0..answer.reasoning)
        .flat_map(move |_| (0..choices).map(|choice| Event::Reasoning { choice }));
    let huge = directives.huge_bytes.map(|bytes| Event::Huge { bytes });
    let content = (0..last).flat_map(move |chunk| {
        let round = (0..choices).map(move |choice| Cue::Event(Event::Content { choice, chunk }));
        mishaps.after(chunk).chain(round)
    });
    let finish = (0..choices).map(|choice| Event::Finish { choice });
    let usage = (wants_usage && usage_is_own).then_some(Event::Usage);
    let done = (!directives.no_done).then_some(Event::Done);

    let before = opening.chain(reasoning).chain(huge).map(Cue::Event);
    let after = finish.chain(usage).chain(done).map(Cue::Event);
    before.chain(content).chain(mishaps.after(last)).chain(after)
}

/// What goes wrong after how many content chunks.
#[derive(Debug, Clone, Copy)]
struct Mishaps {
    garbage: Option<usize>,
    error_frame: Option<usize>,
    duplicate_start: Option<usize>,
    noise: Option<usize>,
    close: Option<usize>,
    cut: Option<usize>,
    stall: Option<usize>,
}

impl Mishaps {
    /// A mishap after more chunks than there are happens after the last.
    fn new(directives: &Directives, last: usize) -> Self {
        let at = |chunks: Option<usize>| chunks.map(|chunks| chunks.min(last));
        Self {
            garbage: at(directives.garbage),
            error_frame: at(directives.error_frame),
            duplicate_start: at(directives.duplicate_start),
            noise: at(directives.noise),
            close: at(directives.close),
            cut: at(directives.cut),
            stall: at(directives.stall),
        }
    }

    /// What happens when `chunks` content chunks have been sent.
    fn after(self, chunks: usize) -> impl Iterator<Item = Cue> + Send {
        let due = |at: Option<usize>, cue: Cue| (at == Some(chunks)).then_some(cue);
        let cues = [
            due(self.duplicate_start, Cue::Event(Event::Open { choice: 0 })),
            due(self.noise, Cue::Event(Event::Noise)),
            due(self.garbage, Cue::Event(Event::Malformed)),
            due(self.error_frame, Cue::Event(Event::Failure)),
            due(self.error_frame, Cue::Close),
            due(self.close, Cue::Close),
            due(self.cut, Cue::Cut),
            due(self.stall, Cue::Hold),
        ];
        cues.into_iter().flatten()
    }
}
