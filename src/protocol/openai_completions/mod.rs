//! OpenAI's older text completions: a surface only. Providers that serve them natively get the
//! caller's bytes; for the others a prompt becomes a conversation of one turn.
//!
//! Source: OpenAI API reference, "Create completion".

use std::collections::HashSet;

use super::{
    failure,
    fields::{Fields, RequestError},
    json::{Json, RawObject, object},
    neutral::{Answer, Conversation, Dialect, Event, Part, PartBody, Role, Turn},
    openai_chat::{finish_reason, usage_object},
    sse::put_data,
    translate::Show,
};

/// Fields that chat has under the same name and with the same meaning.
const SHARED: [&str; 3] = ["logit_bias", "service_tier", "stream_options"];
/// Fields that only a model without chat can honour.
const LOST: [&str; 4] = ["best_of", "echo", "logprobs", "suffix"];

/// Reads a request. The body object `weighbridge` is left out; other unknown fields are kept.
pub fn read_request(body: &[u8]) -> Result<Conversation, RequestError> {
    let mut body = Fields::parse(body)?;
    let mut read = Conversation::new(Dialect::OpenAiChat, body.required("model")?);
    body.take("weighbridge");
    let prompt = prompt(&mut body)?;
    read.turns.push(Turn {
        role: Role::User,
        name: None,
        parts: vec![Part::text(prompt)],
        path: "prompt".to_owned(),
    });
    read.stream = body.optional("stream")?.unwrap_or_default();
    if let Some(mut options) = body.object("stream_options")? {
        read.include_usage = options.optional("include_usage")?.unwrap_or_default();
    }
    read.max_output_tokens = body.optional("max_tokens")?;
    read.sampling.temperature = body.optional("temperature")?;
    read.sampling.top_p = body.optional("top_p")?;
    read.sampling.presence_penalty = body.optional("presence_penalty")?;
    read.sampling.frequency_penalty = body.optional("frequency_penalty")?;
    read.sampling.seed = body.optional("seed")?;
    read.user = body.optional("user")?;
    read.stop = match body.take("stop") {
        Some(stop) => {
            stop.as_string().map(|one| vec![one]).or_else(|| stop.read()).ok_or_else(|| {
                RequestError::at("stop", "must be a string or an array of strings")
            })?
        }
        None => Vec::new(),
    };
    if body.optional::<u32>("n")?.is_some_and(|n| n > 1) {
        read.warnings.add("field_dropped", "n");
    }
    for name in LOST {
        if body.take(name).is_some_and(|value| !matches!(value.text(), "false" | "1" | "\"\"")) {
            read.warnings.add("field_dropped", name);
        }
    }
    read.extra =
        body.rest().into_iter().filter(|(name, _)| SHARED.contains(&name.as_str())).collect();
    Ok(read)
}

/// One text: several prompts or token numbers only a native server can take.
fn prompt(body: &mut Fields) -> Result<String, RequestError> {
    let what = "must be a string, or an array of one string: ask for several prompts one by one";
    let prompt = body.take("prompt").ok_or_else(|| RequestError::at("prompt", "is missing"))?;
    let one = |several: Vec<Json>| match several.as_slice() {
        [one] => one.as_string(),
        _ => None,
    };
    prompt
        .as_string()
        .or_else(|| one(prompt.read()?))
        .ok_or_else(|| RequestError::at("prompt", what))
}

/// Writes an answer for a caller.
pub fn write_answer(answer: &Answer, show: &Show) -> RawObject {
    let texts = answer.parts.iter().filter_map(|part| match &part.body {
        PartBody::Text(text) | PartBody::Refusal(text) => Some(text.as_str()),
        _ => None,
    });
    let choice = choice(&texts.collect::<String>(), Some(finish_reason(answer.stop)));
    let mut body = head(show.id_or(&answer.id), show);
    body.put("choices", &[choice]);
    body.put_some("usage", &answer.usage.as_ref().map(usage_object));
    body
}

fn head(id: &str, show: &Show) -> RawObject {
    object! {
        "id": id, "object": "text_completion", "created": show.created, "model": show.model,
    }
}

fn choice(text: &str, finish_reason: Option<&str>) -> RawObject {
    object! {
        "text": text, "index": 0, "logprobs": None::<u8>, "finish_reason": finish_reason,
    }
}

/// Writes a stream's chunks.
#[derive(Debug)]
pub struct Encoder {
    show: Show,
    id: String,
    /// Parts that say nothing here: reasoning.
    silent: HashSet<usize>,
}

impl Encoder {
    /// An encoder for one answer.
    pub fn new(show: Show) -> Self {
        Self { show, id: String::new(), silent: HashSet::new() }
    }

    /// Writes what one event is in this dialect; the last one ends with `[DONE]`.
    pub fn encode(&mut self, event: &Event, out: &mut Vec<u8>) {
        use super::neutral::PartKind::{RedactedThinking, Thinking};
        match event {
            Event::Start { id, .. } => self.id = self.show.id_or(id).to_owned(),
            Event::PartStart { index, kind: Thinking | RedactedThinking(_) } => {
                self.silent.insert(*index);
            }
            Event::TextDelta { index, text } if !self.silent.contains(index) => {
                self.chunk(&[choice(text, None)], None, out);
            }
            Event::Finish { stop, usage, .. } => {
                self.chunk(&[choice("", Some(finish_reason(*stop)))], None, out);
                if self.show.include_usage {
                    self.chunk(&[], usage.as_ref().map(usage_object), out);
                }
                put_data("[DONE]", out);
            }
            Event::Error(error) => {
                let body = failure::write_error(Dialect::OpenAiChat, error, &self.show.id);
                put_data(&String::from_utf8_lossy(&body.to_bytes()), out);
            }
            _ => {}
        }
    }

    fn chunk(&self, choices: &[RawObject], usage: Option<RawObject>, out: &mut Vec<u8>) {
        let mut chunk = head(&self.id, &self.show);
        chunk.put("choices", choices);
        chunk.put_some("usage", &usage);
        put_data(&String::from_utf8_lossy(&chunk.to_bytes()), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_a_conversation_of_one_turn() {
        let body = br#"{"model":"m","prompt":["Once"],"max_tokens":5,"stop":"x","echo":true,"weighbridge":{}}"#;
        let read = read_request(body).unwrap();
        assert_eq!(read.turns[0].parts, [Part::text("Once")]);
        assert_eq!((read.max_output_tokens, read.stop), (Some(5), vec!["x".to_owned()]));
        assert_eq!(read.warnings.to_string(), "field_dropped:echo");
        for wrong in [r#""prompt":[1,2]"#, r#""prompt":["a","b"]"#, r#""x":1"#] {
            let error = read_request(format!("{{\"model\":\"m\",{wrong}}}").as_bytes());
            assert_eq!(error.unwrap_err().param.as_deref(), Some("prompt"), "{wrong}");
        }
    }
}
