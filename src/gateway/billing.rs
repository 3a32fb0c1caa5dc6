//! What a request may cost at most, what its caller may use, and its row in the ledger.

use std::collections::VecDeque;

use super::{
    GatewayError, RequestInfo, Routed,
    settle::{Lost, Settlement},
};
use crate::{
    config::Config,
    ledger::{
        ReserveError,
        budget::WhenSpent,
        meter::{Amounts, Demand, Refusal},
        row::{self, Row},
        tenant::Restrictions,
    },
    policy::{Candidate, ModelCard, Needs, Reason},
    protocol::{incoming::Incoming, neutral::Surface},
    units::{NanoUsd, Price, TokenCount},
};

/// Tags kept of one request.
const MAX_TAGS: usize = 16;
/// Longest name or value of a tag, in bytes; a longer one is left out. Other names are cut there.
const MAX_TAG_BYTES: usize = 256;
/// Most answers that a caller may ask for at once (OpenAI's bound on `n`).
const MAX_CHOICES: u64 = 128;

/// What a candidate may use at most. Without a bound of the caller's, `assumed_output` stands for
/// the answer, and less will do.
pub fn demand(
    request: &Incoming,
    needs: &Needs,
    card: &ModelCard,
    price: Option<&Price>,
    assumed_output: u32,
) -> Demand {
    let most = card.max_output_tokens.unwrap_or(u32::MAX);
    let output = if request.embeddings.is_some() {
        0
    } else {
        u64::from(needs.output_tokens.unwrap_or(assumed_output).min(most)) * choices(request)
    };
    let amounts = |output| Amounts {
        nano_usd: price.map_or(0, |price| dearest(price, request, needs.prompt_tokens, output).0),
        tokens: i64::try_from(needs.prompt_tokens.saturating_add(output)).unwrap_or(i64::MAX),
    };
    let wanted = amounts(output);
    let is_bound = needs.output_tokens.is_some() || request.embeddings.is_some();
    let least = if is_bound { wanted } else { amounts(0) };
    Demand { wanted, least }
}

/// A demand that comes to what is used already.
fn beside(lost: Lost, demand: Demand) -> Demand {
    let used = lost.tokens.prompt_tokens.saturating_add(lost.tokens.completion_tokens);
    let more = |amounts: Amounts| Amounts {
        nano_usd: amounts.nano_usd.saturating_add(lost.cost.unwrap_or_default().0),
        tokens: amounts.tokens.saturating_add(i64::try_from(used).unwrap_or(i64::MAX)),
    };
    Demand { wanted: more(demand.wanted), least: more(demand.least) }
}

/// The most that a prompt and an answer can cost: all of the prompt may be written to the provider's
/// cache, or be sound or images where the request has any; all of the answer may be reasoning, or
/// sound where it may be spoken.
fn dearest(price: &Price, request: &Incoming, prompt: u64, output: u64) -> NanoUsd {
    let content = &request.content;
    let plain = TokenCount { prompt_tokens: prompt, ..TokenCount::default() };
    let written = TokenCount { cache_write_tokens: prompt, ..plain };
    let prompts = [
        Some(plain),
        Some(written),
        Some(TokenCount { cache_write_1h_tokens: prompt, ..written }),
        content.audio.then_some(TokenCount { audio_prompt_tokens: prompt, ..plain }),
        content.images.then_some(TokenCount { image_prompt_tokens: prompt, ..plain }),
    ];
    let speaks = request.field("audio").is_some();
    let cost = |tokens: TokenCount| {
        let tokens = TokenCount { completion_tokens: output, ..tokens };
        let thought = TokenCount { reasoning_tokens: output, ..tokens };
        let spoken = TokenCount { audio_completion_tokens: output, ..tokens };
        let spoken = if speaks { price.cost(&spoken) } else { NanoUsd::default() };
        price.cost(&tokens).max(price.cost(&thought)).max(spoken)
    };
    prompts.into_iter().flatten().map(cost).max().unwrap_or_default()
}

/// How many answers a chat or completion request asks for.
fn choices(request: &Incoming) -> u64 {
    let number = |name| request.field(name)?.get().parse::<u64>().ok();
    match request.surface {
        Surface::OpenAiChat | Surface::OpenAiCompletions => {
            number("n").max(number("best_of")).unwrap_or(1).clamp(1, MAX_CHOICES)
        }
        Surface::OpenAiResponses | Surface::Anthropic => 1,
    }
}

/// Whether a key may name a model itself. A key that is bound to policies goes through them, unless
/// its own list of models has the model; one that is bound to tiers names only models of those.
pub fn may_name(config: &Config, allowed: &Restrictions, model: &str) -> bool {
    let is_it = |index: &usize| config.models.get(*index).is_some_and(|card| card.name == model);
    let is_in_tier = || {
        let policies = config.policies.iter().filter(|one| allowed.allows_policy(one.name()));
        let mut tiers = policies.flat_map(|policy| policy.tiers());
        tiers.any(|tier| allowed.allows_tier(&tier.name) && tier.models.iter().any(is_it))
    };
    allowed.allows_model(model)
        && (allowed.policies.is_empty() || allowed.models.iter().any(|listed| listed == model))
        && (allowed.tiers.is_empty() || is_in_tier())
}

/// Refuses a model that the caller's key may not name.
pub fn check_named(
    config: &Config,
    allowed: Option<&Restrictions>,
    model: &str,
) -> Result<(), GatewayError> {
    match allowed.filter(|allowed| !may_name(config, allowed, model)) {
        Some(allowed) => Err(GatewayError::Forbidden(not_allowed(allowed))),
        None => Ok(()),
    }
}

/// Leaves in the route what the caller's key may use.
pub fn restrict(routed: &mut Routed, allowed: &Restrictions) -> Result<(), GatewayError> {
    let (models, tiers) = (&routed.models, &routed.tiers);
    let may_serve = |candidate: &Candidate| {
        let model = models.get(candidate.model).map_or("", |card| card.name.as_str());
        let tier = tiers.get(candidate.tier);
        allowed.allows_model(model) && tier.is_none_or(|tier| allowed.allows_tier(tier))
    };
    let had = routed.decision.route.len();
    routed.decision.route.retain(may_serve);
    if routed.decision.route.len() == had {
        return Ok(());
    }
    let Some(first) = routed.decision.route.first().copied() else {
        return Err(GatewayError::Forbidden(not_allowed(allowed)));
    };
    routed.served = Some(first);
    if routed.policy.is_some() && routed.decision.tier != first.tier {
        routed.decision.tier = first.tier;
        routed.decision.reason = Reason::KeyRestricted;
    }
    Ok(())
}

fn not_allowed(allowed: &Restrictions) -> String {
    let mut lists = Vec::new();
    let all =
        [("policies", &allowed.policies), ("models", &allowed.models), ("tiers", &allowed.tiers)];
    for (what, list) in all {
        if !list.is_empty() {
            lists.push(format!("{what}: {}", list.join(", ")));
        }
    }
    format!("the API key may use only {}", lists.join("; "))
}

/// What becomes of a request whose worst case no longer fits.
pub enum Way {
    /// Go on with what is left of the route.
    Next,
    /// Begin again with these candidates, outside of the budget.
    Downgrade(VecDeque<Candidate>),
    /// No.
    Refuse,
}

impl Way {
    /// After a refusal. `is_first` tells whether nothing has been asked yet: a dearer fallback that
    /// cannot be paid for is only skipped.
    pub fn after(refusal: &Refusal, routed: &Routed, is_first: bool) -> Self {
        if refusal.is_about_model() || !is_first {
            return Self::Next;
        }
        let Some(choice) = refusal.downgrade() else { return Self::Refuse };
        let is_free = |card: &ModelCard| {
            let zero = Price::default();
            card.price.is_none_or(|price| Price { long_prompt: None, ..price } == zero)
        };
        let stays = |candidate: &Candidate| match choice {
            WhenSpent::Reject => false,
            WhenSpent::CheapTier => routed.policy.is_some() && candidate.tier == 0,
            WhenSpent::FreeModels => routed.models.get(candidate.model).is_some_and(is_free),
        };
        let route: VecDeque<_> = routed.decision.route.iter().copied().filter(stays).collect();
        if route.is_empty() { Self::Refuse } else { Self::Downgrade(route) }
    }
}

impl GatewayError {
    /// The error of a request for which nothing could be reserved.
    pub(super) fn unreserved(error: ReserveError, routed: Routed) -> Self {
        let routed = Box::new(routed);
        match error {
            ReserveError::Refused(refusal) => Self::Refused { routed, refusal },
            ReserveError::Unavailable(message) => Self::LedgerUnavailable { routed, message },
        }
    }
}

/// The name of the surface in the ledger.
pub fn surface_name(request: &Incoming) -> &'static str {
    match request.surface {
        _ if request.embeddings.is_some() => "embeddings",
        Surface::OpenAiChat => "chat",
        Surface::OpenAiCompletions => "completions",
        Surface::OpenAiResponses => "responses",
        Surface::Anthropic => "messages",
    }
}

/// The body's `metadata`, as far as it is text, then the header's tags.
pub fn tags(request: &Incoming, info: &RequestInfo) -> Vec<(String, String)> {
    let metadata = request.field("metadata").map(serde_json::value::RawValue::get);
    let metadata: serde_json::Map<String, serde_json::Value> =
        metadata.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let texts = metadata.into_iter().filter_map(|(name, value)| match value {
        serde_json::Value::String(value) if name != "user_id" => Some((name, value)),
        _ => None,
    });
    let fits = |(name, value): &(String, String)| {
        !name.is_empty() && name.len() <= MAX_TAG_BYTES && value.len() <= MAX_TAG_BYTES
    };
    let all = texts.chain(info.tags.iter().cloned()).filter(fits).take(MAX_TAGS);
    all.map(|(name, value)| (storable(&name), storable(&value))).collect()
}

/// A caller's text as every database takes it: bounded, without NUL.
pub fn storable(text: &str) -> String {
    text.chars()
        .take(MAX_TAG_BYTES)
        .map(|c| if c == '\0' { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

impl Settlement {
    /// Reserves what this candidate may use at most, beside what others have used for nothing.
    pub(super) async fn reserve(
        &mut self,
        request: &Incoming,
        routed: &Routed,
        card: &ModelCard,
    ) -> Result<(), ReserveError> {
        let Some(mut account) = self.account.take() else { return Ok(()) };
        let price = card.price_at(self.time_ms());
        let assumed = account.assumed_output_tokens();
        let demand = demand(request, &routed.needs, card, price.as_ref(), assumed);
        let demand = beside(self.lost(), demand);
        let needs = &routed.needs;
        let completion = demand.wanted.tokens.unsigned_abs().saturating_sub(needs.prompt_tokens);
        let row = Row {
            model: Some(card.name.clone()),
            provider: Some(card.provider.clone()),
            tier: routed.tier().map(str::to_owned),
            tokens: row::Tokens {
                prompt: needs.prompt_tokens,
                completion,
                ..row::Tokens::default()
            },
            usage_estimated: true,
            cost_nano_usd: price.map(|_| demand.wanted.nano_usd),
            outcome: INTERRUPTED.to_owned(),
            ..self.row()
        };
        let reserved = account.reserve(&card.name, &demand, &row).await;
        self.account = Some(account);
        reserved.map_err(|error| error.named(self.caller()))
    }
}

/// The outcome of a request whose process was killed.
const INTERRUPTED: &str = "gateway_interrupted";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn request(fields: &str) -> Incoming {
        let body =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hi"}}]{fields}}}"#);
        Incoming::parse(Surface::OpenAiChat, body.as_bytes()).unwrap()
    }

    fn card() -> ModelCard {
        let price = Price {
            input_nano_usd_per_mtok: 1_000_000_000,
            output_nano_usd_per_mtok: 4_000_000_000,
            cached_input_nano_usd_per_mtok: 100_000_000,
            cache_write_nano_usd_per_mtok: Some(1_250_000_000),
            ..Price::default()
        };
        ModelCard { price: Some(price), max_output_tokens: Some(500), ..ModelCard::named("m", "p") }
    }

    #[test]
    fn the_worst_case_is_the_whole_answer_and_a_prompt_that_is_written_to_the_cache() {
        let of = |fields: &str, output_tokens| {
            let needs = Needs { prompt_tokens: 100, output_tokens, ..Needs::default() };
            demand(&request(fields), &needs, &card(), card().price.as_ref(), 200)
        };
        // 100 × 1,250 and 50 × 4,000 nano-dollars.
        let bound = of("", Some(50));
        assert_eq!(bound.wanted, Amounts { nano_usd: 325_000, tokens: 150 });
        assert_eq!(bound.least, bound.wanted);
        // No answer is longer than the model's bound of 500.
        assert_eq!(of("", Some(9_000)).wanted.tokens, 600);
        assert_eq!(of(r#","n":3"#, Some(50)).wanted.tokens, 250);
        // Without a bound 200 are assumed, and the prompt alone will do.
        // An hour in the cache costs more than five minutes, thinking more than speaking.
        let dear = Price {
            cache_write_1h_nano_usd_per_mtok: Some(2_000_000_000),
            reasoning_nano_usd_per_mtok: Some(5_000_000_000),
            audio_input_nano_usd_per_mtok: Some(90_000_000_000),
            ..card().price.unwrap()
        };
        let needs = Needs { prompt_tokens: 100, output_tokens: Some(50), ..Needs::default() };
        // 100 × 2,000 and 50 × 5,000 nano-dollars; there is nothing to hear.
        let most = demand(&request(""), &needs, &card(), Some(&dear), 200).wanted;
        assert_eq!(most.nano_usd, 450_000);
        let open = of("", None);
        assert_eq!((open.wanted.tokens, open.least.tokens), (300, 100));
        assert_eq!(open.least.nano_usd, 125_000);
    }

    #[test]
    fn a_key_bound_to_policies_or_tiers_does_not_go_around_them_by_naming_a_model() {
        let text = "[providers.p]\ndialect = \"openai\"\nbase_url = \"http://a/v1\"\n\
             [models.small]\nprovider = \"p\"\n[models.large]\nprovider = \"p\"\n\
             [policies.auto]\ndefault_tier = \"strong\"\ntiers = [\
             { name = \"cheap\", below = 0.5, models = [\"small\"] }, \
             { name = \"strong\", models = [\"large\"] }]\n";
        let config = parse(text, Path::new("w.toml"), &|_: &str| None).unwrap().config;
        let may = |policies: &str, models: &str, tiers: &str| {
            let list = |text: &str| text.split_whitespace().map(str::to_owned).collect();
            let allowed = Restrictions {
                policies: list(policies),
                models: list(models),
                tiers: list(tiers),
                ..Restrictions::default()
            };
            ["small", "large", "p/other"].map(|model| may_name(&config, &allowed, model))
        };
        for ((policies, models, tiers), expected) in [
            (("", "", ""), [true, true, true]),
            (("", "small p/other", ""), [true, false, true]),
            (("auto", "", ""), [false, false, false]),
            (("auto", "small", ""), [true, false, false]),
            (("", "", "cheap"), [true, false, false]),
            (("", "small large", "cheap"), [true, false, false]),
            (("other", "", "cheap"), [false, false, false]),
        ] {
            assert_eq!(may(policies, models, tiers), expected, "{policies}, {models}, {tiers}");
        }
    }
}
