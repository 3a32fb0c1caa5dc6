//! For whom a request is written, and what came of it.

use sha2::{Digest as _, Sha256};

use super::{
    Conversation, Dialect, Effort, KnownTools, Reasoning, Sampling, Signature, ToolChoice, Traits,
    Tuning, Warnings,
};
use crate::protocol::json::{Json, RawObject};

/// The model that a request is written for, and what it can take.
#[derive(Debug, Clone, PartialEq)]
pub struct Target<'a> {
    /// The language it speaks.
    pub dialect: Dialect,
    /// Its name as the provider knows it.
    pub model: &'a str,
    /// The model's own bound on an answer: used where the dialect demands one and the caller
    /// gave none.
    pub max_output_tokens: u32,
    /// The provider's name of the model that served this conversation so far, if it is known:
    /// signatures that do not name their maker are taken for this model's.
    pub previous_model: Option<&'a str>,
    /// Whether the model reasons on demand; otherwise wishes about it are dropped.
    pub reasoning: bool,
    /// What its name tells of the parameters it takes.
    pub traits: Traits,
    /// Whether the provider takes a JSON schema as such; otherwise a forced tool stands in.
    /// Counts for Anthropic and Bedrock.
    pub json_schema: bool,
    /// Whether a chat server takes `reasoning_content` back in the history (DeepSeek, vLLM).
    pub reasoning_content: bool,
    /// Whether a chat server knows `max_tokens` only, not `max_completion_tokens`.
    pub old_max_tokens: bool,
    /// Whether a chat server's tool call ids are nine letters and digits.
    pub short_tool_ids: bool,
    /// Whether a chat server understands `stream_options`.
    pub stream_usage: bool,
}

impl<'a> Target<'a> {
    /// A model that can take everything that its name does not rule out, as the dialect's own
    /// provider runs it.
    pub fn new(dialect: Dialect, model: &'a str) -> Self {
        Self {
            dialect,
            model,
            max_output_tokens: 4096,
            previous_model: None,
            reasoning: true,
            traits: Traits::of(model),
            json_schema: true,
            reasoning_content: false,
            old_max_tokens: false,
            short_tool_ids: false,
            stream_usage: true,
        }
    }

    /// Whether a signature may go to this model.
    pub fn takes(&self, signature: &Signature) -> bool {
        signature.fits(self.dialect, self.model, self.previous_model)
    }

    /// What the caller wants of the model's reasoning, if the model can do it.
    pub fn reasoning<'c>(
        &self,
        conversation: &'c Conversation,
        warnings: &mut Warnings,
    ) -> Option<&'c Reasoning> {
        let wanted = conversation.reasoning.as_ref()?;
        if !self.reasoning {
            warnings.add("reasoning_dropped", "reasoning");
            return None;
        }
        Some(wanted)
    }

    /// The caller's sampling parameters without those that the model refuses.
    pub(in crate::protocol) fn sampling(
        &self,
        conversation: &Conversation,
        warnings: &mut Warnings,
    ) -> Sampling {
        let mut sampling = conversation.sampling.clone();
        let silent =
            conversation.reasoning.as_ref().and_then(|wanted| wanted.effort) == Some(Effort::None);
        match self.traits.tuning {
            Tuning::All => {}
            Tuning::OneOf => {
                if sampling.temperature.is_some() && sampling.top_p.take().is_some() {
                    warnings.add("sampling_dropped", "top_p");
                }
            }
            Tuning::Nothing => {
                leave_out(&mut sampling.temperature, 1.0, "temperature", warnings);
                leave_out(&mut sampling.top_p, 1.0, "top_p", warnings);
                if sampling.top_k.take().is_some() {
                    warnings.add("sampling_dropped", "top_k");
                }
            }
            Tuning::NothingNorStops | Tuning::WithoutReasoning => {
                if !silent || self.traits.tuning == Tuning::NothingNorStops {
                    leave_out(&mut sampling.temperature, 1.0, "temperature", warnings);
                    leave_out(&mut sampling.top_p, 1.0, "top_p", warnings);
                }
                leave_out(&mut sampling.presence_penalty, 0.0, "presence_penalty", warnings);
                leave_out(&mut sampling.frequency_penalty, 0.0, "frequency_penalty", warnings);
            }
        }
        sampling
    }

    /// The caller's stop texts, unless the model refuses any.
    pub(in crate::protocol) fn stops<'c>(
        &self,
        conversation: &'c Conversation,
        warnings: &mut Warnings,
    ) -> &'c [String] {
        if self.traits.refuses_stops() && !conversation.stop.is_empty() {
            warnings.add("sampling_dropped", "stop");
            return &[];
        }
        &conversation.stop
    }
}

/// Leaves out a parameter; one that says the default is no loss.
fn leave_out(value: &mut Option<f64>, default: f64, name: &'static str, warnings: &mut Warnings) {
    if value.take().is_some_and(|value| value != default) {
        warnings.add("sampling_dropped", name);
    }
}

/// A request in a provider's language.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The body.
    pub body: Vec<u8>,
    /// Everything lost between the caller and the provider, the reader's part included.
    pub warnings: Warnings,
    /// The tool that stands in for a JSON schema: the answer's call of it is the answer's text.
    pub schema_tool: Option<String>,
}

/// The path of a part of a turn or of a tool result at `path`, or of the system's.
pub(in crate::protocol) fn part_path(path: &str, at: usize) -> String {
    if path == "system" { format!("system[{at}]") } else { format!("{path}.content[{at}]") }
}

/// Fields that OpenAI's two surfaces share (API reference, "Create chat completion" and "Create
/// a model response").
const OPENAI_SHARED: [&str; 8] = [
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "top_logprobs",
    "verbosity",
];

/// Values that ask for what happens anyway: left out, they are no loss (the same reference).
const DEFAULTS: [(&str, &str); 10] = [
    ("background", "false"),
    ("include", "[]"),
    ("logit_bias", "{}"),
    ("logprobs", "false"),
    ("metadata", "{}"),
    ("modalities", r#"["text"]"#),
    ("service_tier", r#""auto""#),
    ("store", "false"),
    ("top_logprobs", "0"),
    ("truncation", r#""disabled""#),
];

/// The value of `include` that asks for reasoning that can be sent back (the same reference).
const SEALED_REASONING: &str = "reasoning.encrypted_content";

/// Longest name of a user that OpenAI takes (its error message, "maximum length 64"). What
/// Claude Code sends is longer.
const MAX_USER_BYTES: usize = 64;

impl Conversation {
    /// The caller's name for its user as OpenAI takes it: a longer one is replaced by its SHA-256,
    /// which tells users apart as well.
    pub(in crate::protocol) fn openai_user(&self, warnings: &mut Warnings) -> Option<String> {
        let user = self.user.clone()?;
        let openai = matches!(self.origin, Dialect::OpenAiChat | Dialect::OpenAiResponses);
        if openai || user.len() <= MAX_USER_BYTES {
            return Some(user);
        }
        warnings.add("user_hashed", "user");
        let digest = Sha256::digest(user.as_bytes());
        Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Writes the tools and which of them must be called, in the words that OpenAI's two dialects share.
    /// A caller of the same dialect gets those that it alone has (`known`) offered as they came, others
    /// what `written` makes of them; `named` is the choice of one tool.
    pub(in crate::protocol) fn put_openai_tools(
        &self,
        known: &KnownTools,
        body: &mut RawObject,
        written: impl FnOnce() -> Vec<Json>,
        named: impl FnOnce(&str) -> RawObject,
    ) {
        let tools = if known.is_empty() { written() } else { self.tools_as_offered.clone() };
        if tools.is_empty() {
            // Servers refuse a choice among no tools.
            return;
        }
        body.put("tools", &tools);
        match &self.tool_choice {
            Some(ToolChoice::Auto) => body.put("tool_choice", "auto"),
            Some(ToolChoice::None) => body.put("tool_choice", "none"),
            Some(ToolChoice::Required) => body.put("tool_choice", "required"),
            Some(ToolChoice::Named(name)) => body.put("tool_choice", &named(name)),
            None => {}
        }
        body.put_some("parallel_tool_calls", &self.parallel_tool_calls);
    }

    /// Carries the caller's unknown fields where the other side can know them, and names them
    /// where it cannot.
    pub(in crate::protocol) fn carry_extra(
        &self,
        dialect: Dialect,
        body: &mut RawObject,
        warnings: &mut Warnings,
    ) {
        let openai = |d| matches!(d, Dialect::OpenAiChat | Dialect::OpenAiResponses);
        for (name, value) in &self.extra {
            let shared =
                openai(self.origin) && openai(dialect) && OPENAI_SHARED.contains(&name.as_str());
            if self.origin == dialect || shared {
                body.put(name, value);
            } else if !is_default(name, value) && !is_given_anyway(name, value, dialect) {
                warnings.add("field_dropped", name.clone());
            }
        }
    }
}

/// Sealed reasoning stands in every answer from dialects that seal it, asked for or not.
fn is_given_anyway(name: &str, value: &Json, dialect: Dialect) -> bool {
    let seals = matches!(dialect, Dialect::Anthropic | Dialect::Bedrock | Dialect::Gemini);
    let sealed = |wanted: Vec<String>| wanted.iter().all(|one| one == SEALED_REASONING);
    seals && name == "include" && value.read().is_some_and(sealed)
}

fn is_default(name: &str, value: &Json) -> bool {
    let default = DEFAULTS.iter().find(|(known, _)| *known == name);
    default.is_some_and(|(_, default)| Json::parse(default).as_ref() == Some(value))
}
