//! The parts of a stream as a decoder meets them, turned into well-formed events.
//!
//! Providers start parts in many ways: with an event of their own, with the first delta, with an
//! index that is missing or wrong. [`Parts`] takes what was said and keeps the promise of
//! [`super::event`]: parts start before their deltas and end once, and no piece of a tool call's
//! arguments is lost, not even one that comes before the tool's name.

use std::collections::{BTreeMap, HashMap};

use super::{Event, PartKind, Signature, Stop, Usage, Warnings};

/// The events so far and the parts that are open.
#[derive(Debug, Default)]
pub struct Parts {
    events: Vec<Event>,
    started: bool,
    next_index: usize,
    /// The open text, thinking or refusal.
    prose: Option<(usize, PartKind)>,
    /// The open calls, numbered in the order in which they began.
    calls: BTreeMap<u64, Call>,
    /// The last of them under each of the provider's names.
    by_key: HashMap<u64, u64>,
    next_call: u64,
    /// A tool has been called.
    called: bool,
    usage: Option<Usage>,
    lost: Warnings,
}

/// An open tool call.
#[derive(Debug)]
struct Call {
    id: String,
    name: String,
    signature: Option<Signature>,
    /// `None` until its name is known.
    index: Option<usize>,
    /// Fragments that came before the name.
    held: String,
}

impl Parts {
    /// Takes the events that have come up.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether the answer has begun.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Something has no place in events. `path` is that of what has it, in the provider's answer.
    pub fn lost(&mut self, code: &'static str, path: &str) {
        self.lost.add(code, path);
    }

    /// Takes what has no place in events.
    pub fn take_lost(&mut self) -> Warnings {
        std::mem::take(&mut self.lost)
    }

    /// The number of tool calls and other parts so far.
    pub fn count(&self) -> usize {
        self.next_index
    }

    /// The answer begins; said again, it changes nothing.
    pub fn start(&mut self, id: &str, model: &str) {
        if !std::mem::replace(&mut self.started, true) {
            self.events.push(Event::Start { id: id.to_owned(), model: model.to_owned() });
        }
    }

    /// More text.
    pub fn text(&mut self, text: &str) {
        self.prose(PartKind::Text, text);
    }

    /// More reasoning.
    pub fn thinking(&mut self, text: &str) {
        self.prose(PartKind::Thinking, text);
    }

    /// More of a refusal.
    pub fn refusal(&mut self, text: &str) {
        self.prose(PartKind::Refusal, text);
    }

    /// The signature of the open reasoning; without any, of an empty one.
    pub fn signature(&mut self, signature: Signature) {
        let index = match &self.prose {
            Some((index, PartKind::Thinking)) => *index,
            _ => self.open(PartKind::Thinking),
        };
        self.events.push(Event::Signature { index, signature });
    }

    /// Reasoning that only its maker can read.
    pub fn redacted(&mut self, data: Signature) {
        self.end_prose();
        let index = self.part_start(PartKind::RedactedThinking(data));
        self.events.push(Event::PartEnd { index });
    }

    /// A tool call, as far as this piece tells of it. Another id under the same key is another
    /// call: some servers number all of an answer's calls 0. `made_id` serves where the provider
    /// has none.
    pub fn call(
        &mut self,
        key: u64,
        id: &str,
        name: &str,
        signature: Option<Signature>,
        made_id: impl FnOnce() -> String,
    ) {
        self.end_prose();
        let known = self.by_key.get(&key).copied();
        let same = known.and_then(|number| self.calls.get_mut(&number)).filter(|call| {
            let same_id = id.is_empty() || call.id.is_empty() || call.id == id;
            same_id || name.is_empty()
        });
        let number = match (same, known) {
            (Some(call), Some(number)) => {
                if call.index.is_none() {
                    if !id.is_empty() {
                        id.clone_into(&mut call.id);
                    }
                    call.name.push_str(name);
                    call.signature = signature.or(call.signature.take());
                }
                number
            }
            _ => {
                let number = self.next_call;
                self.next_call += 1;
                let id = if id.is_empty() { made_id() } else { id.to_owned() };
                let name = name.to_owned();
                let call = Call { id, name, signature, index: None, held: String::new() };
                self.calls.insert(number, call);
                self.by_key.insert(key, number);
                number
            }
        };
        if self.calls.get(&number).is_some_and(|call| !call.name.is_empty()) {
            self.start_call(number);
        }
    }

    /// A piece of a call's arguments.
    pub fn arguments(&mut self, key: u64, fragment: &str) {
        if fragment.is_empty() {
            return;
        }
        let number = self.by_key.get(&key);
        let Some(call) = number.and_then(|number| self.calls.get_mut(number)) else { return };
        match call.index {
            Some(index) => {
                let fragment = fragment.to_owned();
                self.events.push(Event::ArgumentsDelta { index, fragment });
            }
            None => call.held.push_str(fragment),
        }
    }

    /// A call is complete.
    pub fn end_call(&mut self, key: u64) {
        if let Some(number) = self.by_key.get(&key).copied()
            && let Some(index) = self.calls.get(&number).and_then(|call| call.index)
        {
            self.calls.remove(&number);
            self.by_key.remove(&key);
            self.events.push(Event::PartEnd { index });
        }
    }

    /// The open text, thinking or refusal is complete.
    pub fn end_prose(&mut self) {
        if let Some((index, _)) = self.prose.take() {
            self.events.push(Event::PartEnd { index });
        }
    }

    /// All open parts are complete.
    pub fn end_all(&mut self) {
        self.end_prose();
        // Those whose names never came have to start first.
        let numbers: Vec<u64> = self.calls.keys().copied().collect();
        for number in numbers {
            self.start_call(number);
        }
        self.by_key.clear();
        for index in std::mem::take(&mut self.calls).into_values().filter_map(|call| call.index) {
            self.events.push(Event::PartEnd { index });
        }
    }

    /// What has been used so far.
    pub fn usage(&mut self, usage: Usage) {
        if self.usage != Some(usage) {
            self.usage = Some(usage);
            self.events.push(Event::Usage(usage));
        }
    }

    /// The last usage.
    pub fn last_usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The answer is complete.
    pub fn finish(&mut self, stop: Stop, stop_sequence: Option<String>) {
        self.start("", "");
        self.end_all();
        let stop = stop.with_calls(self.called);
        self.events.push(Event::Finish { stop, stop_sequence, usage: self.usage });
    }

    fn prose(&mut self, kind: PartKind, text: &str) {
        if text.is_empty() {
            return;
        }
        let index = match &self.prose {
            Some((index, open)) if *open == kind => *index,
            _ => self.open(kind),
        };
        self.events.push(Event::TextDelta { index, text: text.to_owned() });
    }

    fn open(&mut self, kind: PartKind) -> usize {
        self.end_prose();
        let index = self.part_start(kind.clone());
        self.prose = Some((index, kind));
        index
    }

    fn part_start(&mut self, kind: PartKind) -> usize {
        self.start("", "");
        let index = self.next_index;
        self.next_index += 1;
        self.events.push(Event::PartStart { index, kind });
        index
    }

    /// Starts a call, unless it has started.
    fn start_call(&mut self, number: u64) {
        let Some(call) = self.calls.get_mut(&number).filter(|call| call.index.is_none()) else {
            return;
        };
        let (id, name) = (call.id.clone(), call.name.clone());
        let (signature, fragment) = (call.signature.take(), std::mem::take(&mut call.held));
        let index = self.part_start(PartKind::ToolCall { id, name, signature });
        if let Some(call) = self.calls.get_mut(&number) {
            call.index = Some(index);
        }
        self.called = true;
        if !fragment.is_empty() {
            self.events.push(Event::ArgumentsDelta { index, fragment });
        }
    }
}
