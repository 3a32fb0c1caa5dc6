//! The request as one candidate is asked: in its provider's language, under its own name.

use bytes::Bytes;

use super::{Gateway, RequestInfo, media::Media, routed::estimate_tokens};
use crate::{
    policy::{Ability, Mode, ModelCard},
    protocol::{
        embeddings::EmbeddingRequest,
        fields::RequestError,
        incoming::Incoming,
        json::RawObject,
        neutral::{Dialect, KnownTools, Surface, Target, Traits, Warnings, Written},
        translate::{Show, write_request},
    },
    upstream::{Api, Operation, Provider, UpstreamError},
};

/// A request as one candidate is asked.
pub struct Prepared {
    /// What is asked for.
    pub operation: Operation,
    /// The provider's language.
    pub dialect: Dialect,
    /// How its answer is read.
    pub form: Form,
    /// JSON.
    pub body: Bytes,
    /// Further bodies, where one answer takes several calls.
    pub more: Vec<Bytes>,
    /// The tool that stands in for a JSON schema.
    pub schema_tool: Option<String>,
    /// What could not be carried over.
    pub warnings: Warnings,
    /// How a translated answer is shown.
    pub show: Show,
}

/// How an answer is read.
#[derive(Clone, Copy, PartialEq)]
pub enum Form {
    /// As the caller speaks: bytes pass.
    Native,
    /// In another language.
    Translated,
    /// Vectors, in the form of this kind of provider.
    Vectors(Api),
}

/// Why a candidate cannot be asked.
pub enum PrepareError {
    /// The request cannot be read, whoever is asked.
    Request(RequestError),
    /// This candidate cannot take it.
    Upstream(UpstreamError),
}

impl From<UpstreamError> for PrepareError {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

impl Gateway {
    /// The request in the candidate's language, with that of `media` inside which its provider
    /// would not fetch.
    pub(super) fn prepare(
        &self,
        request: &Incoming,
        card: &ModelCard,
        info: &RequestInfo,
        media: &Media,
    ) -> Result<Prepared, PrepareError> {
        let name = &card.upstream_name;
        let Some(provider) = self.upstreams.provider(&card.provider) else {
            let message = format!("no provider is named `{}`", card.provider);
            return Err(UpstreamError::Connect(message).into());
        };
        let dialect = dialect(request, card, provider);
        let show = Show {
            id: answer_id(request.surface),
            request_id: info.request_id.clone(),
            model: name.clone(),
            created: info.unix_time,
            include_usage: request.include_usage,
            known_tools: KnownTools::default(),
        };
        let stream = request.stream;
        let prepared = |operation, form, body: Vec<u8>| Prepared {
            operation,
            dialect,
            form,
            body: body.into(),
            more: Vec::new(),
            schema_tool: None,
            warnings: Warnings::default(),
            show: show.clone(),
        };
        if let Some(wanted) = &request.embeddings {
            let mut bodies = vectors_bodies(request, wanted, provider.api, name)?.into_iter();
            let body = bodies.next().unwrap_or_default();
            let prepared = prepared(Operation::Embed, Form::Vectors(provider.api), body);
            return Ok(Prepared { more: bodies.map(Into::into).collect(), ..prepared });
        }
        let native = || request.native_body(name, provider.quirks.stream_usage);
        if provider.completes() && request.surface == Surface::OpenAiCompletions {
            return Ok(prepared(Operation::Complete, Form::Native, native()));
        }
        let operation = Operation::Converse { dialect, stream };
        let speaks = request.surface.speaks(dialect);
        let named = speaks.then(|| self.makers.named(request, name)).flatten();
        let filled = media.put_into(request, named.as_ref(), provider, dialect);
        if speaks && named.is_none() && filled.is_none() && !request.holds_foreign_signature() {
            return Ok(prepared(operation, Form::Native, native()));
        }
        if let Some(field) = request.stored.first().filter(|_| !speaks) {
            let message = format!(
                "`{field}` names what only the provider that stored it knows, and `{}` is not \
                 asked in the same protocol: send the whole conversation",
                card.name
            );
            return Err(UpstreamError::Unsupported(message).into());
        }
        let conversation = match filled.as_ref().or(named.as_ref()) {
            Some(conversation) => conversation,
            None => request.conversation().map_err(PrepareError::Request)?,
        };
        let target = Target {
            max_output_tokens: longest_answer(request, card),
            json_schema: card.can(Ability::JsonSchema),
            reasoning: card.can(Ability::Reasoning),
            reasoning_content: provider.quirks.reasoning_content,
            old_max_tokens: provider.quirks.old_max_tokens,
            short_tool_ids: provider.quirks.short_tool_ids,
            stream_usage: provider.quirks.stream_usage,
            ..Target::new(dialect, name)
        };
        let mut written = write_request(conversation, &target);
        if matches!(dialect, Dialect::OpenAiChat | Dialect::OpenAiResponses) {
            leave_out(&provider.quirks.rejects, &mut written);
        }
        let known_tools = conversation.known_tools();
        Ok(Prepared {
            schema_tool: written.schema_tool,
            warnings: written.warnings,
            show: Show { known_tools, ..show.clone() },
            ..prepared(
                operation,
                if speaks { Form::Native } else { Form::Translated },
                written.body,
            )
        })
    }
}

/// The bound for a provider that demands one, where the caller has set none: the model's, within
/// what the prompt leaves of its window, taken to be a tenth longer than estimated.
fn longest_answer(request: &Incoming, card: &ModelCard) -> u32 {
    let most = card.max_output_tokens.unwrap_or(DEFAULT_MAX_OUTPUT);
    let Some(window) = card.context_window else { return most };
    let prompt = estimate_tokens(request);
    let left = u64::from(window).saturating_sub(prompt + prompt / 10);
    u32::try_from(left).unwrap_or(u32::MAX).clamp(1, most.max(1))
}

/// The language in which a candidate is asked.
///
/// A messages caller shows reasoning again in each turn. What OpenAI's reasoning models hand out
/// survives that on responses only; stop texts, which responses do not have, go before it where
/// the model takes any.
fn dialect(request: &Incoming, card: &ModelCard, provider: &Provider) -> Dialect {
    let is_openai = matches!(provider.api, Api::OpenAi | Api::Azure);
    let reasons = card.abilities.has(Ability::Reasoning) == Some(true);
    let stops = || {
        !Traits::of(&card.upstream_name).refuses_stops()
            && request.conversation().is_ok_and(|conversation| !conversation.stop.is_empty())
    };
    let sealed = request.surface == Surface::Anthropic && reasons && provider.seals_reasoning();
    if is_openai && (card.mode == Some(Mode::Responses) || sealed && !stops()) {
        return Dialect::OpenAiResponses;
    }
    provider.dialect(request.surface)
}

/// Takes out the fields that a provider is known to refuse.
fn leave_out(rejects: &[String], written: &mut Written) {
    let Ok(mut body) = RawObject::parse(&written.body) else { return };
    for name in rejects {
        if body.take(name).is_some() {
            written.warnings.add("field_dropped", name);
        }
    }
    written.body = body.to_bytes();
}

/// A request for vectors in a provider's language: a body for each call.
fn vectors_bodies(
    request: &Incoming,
    wanted: &EmbeddingRequest,
    api: Api,
    model: &str,
) -> Result<Vec<Vec<u8>>, UpstreamError> {
    let body = match api {
        Api::OpenAi | Api::Azure => Some(request.native_body(model, false)),
        Api::Gemini => wanted.for_gemini(model),
        Api::Cohere => wanted.for_cohere(model),
        Api::Bedrock => {
            let bodies = wanted.for_bedrock(model);
            return bodies.map_err(|error| UpstreamError::Unsupported(error.to_string()));
        }
        Api::Anthropic => {
            let message = format!("a provider of the kind `{}` makes no embeddings", api.name());
            return Err(UpstreamError::Unsupported(message));
        }
    };
    body.map(|body| vec![body]).ok_or_else(|| {
        let message = "`input` holds token numbers, which only a provider of OpenAI's kind takes";
        UpstreamError::Unsupported(message.to_owned())
    })
}

/// The bound on an answer where the provider demands one and neither caller nor card has one.
const DEFAULT_MAX_OUTPUT: u32 = 4096;

/// The id of an answer whose provider gives none.
fn answer_id(surface: Surface) -> String {
    let id = uuid::Uuid::now_v7().simple();
    match surface {
        Surface::OpenAiChat => format!("chatcmpl-{id}"),
        Surface::OpenAiCompletions => format!("cmpl-{id}"),
        Surface::OpenAiResponses => format!("resp_{id}"),
        Surface::Anthropic => format!("msg_{id}"),
    }
}
