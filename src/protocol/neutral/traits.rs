//! What a model's name tells of the parameters that it takes.
//!
//! Claude's and OpenAI's later generations answer 400 to parameters that earlier ones took. A
//! caller who translates, or names a policy, cannot know whom a request will reach: what the
//! model is known to refuse is left out and named in the warnings. A name that tells nothing (an
//! alias, a deployment, another maker's model) leaves everything in.
//!
//! Sources: Anthropic, "Adaptive thinking" and "Migrating to Claude Opus 4.1 / 4.7"; OpenAI,
//! "Using GPT-5.2" (parameter compatibility) and "Reasoning models"; which models of the
//! catalogue it concerns is from LiteLLM 1.109.1 (`supports_adaptive_thinking`,
//! `supports_sampling_params`, `thinking_always_on`).

/// Which sampling parameters a model takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tuning {
    /// Whatever its dialect has.
    #[default]
    All,
    /// Temperature or nucleus sampling, not both at once (Claude 4.1 to 4.6).
    OneOf,
    /// Nothing but the defaults (Claude from 4.7).
    Nothing,
    /// Nothing but the defaults, nor stop texts (OpenAI's o series and GPT-5).
    NothingNorStops,
    /// The same, but for temperature and nucleus sampling when it is told not to reason (GPT-5.1
    /// and later).
    WithoutReasoning,
}

/// What a model's name tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traits {
    /// Whether a Claude model decides itself how much to think; a budget is refused from 4.7 on.
    pub adaptive_thinking: bool,
    /// Whether a Claude model cannot be told not to think.
    pub always_thinks: bool,
    /// Which sampling parameters it takes.
    pub tuning: Tuning,
}

impl Traits {
    /// Reads a provider's name of a model, with or without a region's or a maker's prefix.
    pub fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model);
        if let Some((_, claude)) = name.split_once("claude-") {
            return Self::of_claude(claude);
        }
        // Bedrock's names begin with a region or a maker: `us.openai.gpt-5.5`.
        let name = name.split_once("openai.").map_or(name, |(_, rest)| rest);
        Self { tuning: openai_tuning(name), ..Self::default() }
    }

    /// From what follows `claude-`: `opus-4-7-20260416`, `3-7-sonnet-20250219-v1:0`.
    fn of_claude(name: &str) -> Self {
        let version = version(name.split(['-', '.', '@', ':']));
        let nameless = name.starts_with("mythos") || name.starts_with("fable");
        let version = version.unwrap_or(if nameless { (5, 0) } else { (0, 0) });
        Self {
            adaptive_thinking: version >= (4, 6),
            always_thinks: nameless || version >= (5, 5) && !name.starts_with("haiku"),
            tuning: match version {
                (0..=3, _) | (4, 0) => Tuning::All,
                (4, 1..=6) => Tuning::OneOf,
                _ => Tuning::Nothing,
            },
        }
    }

    /// Whether stop texts are refused.
    pub fn refuses_stops(&self) -> bool {
        matches!(self.tuning, Tuning::NothingNorStops | Tuning::WithoutReasoning)
    }
}

/// The first number of one or two digits and the one right after it; dates are longer.
fn version<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<(u32, u32)> {
    let number = |word: &str| (word.len() <= 2).then(|| word.parse::<u32>().ok()).flatten();
    let major = words.by_ref().find_map(number)?;
    Some((major, words.next().and_then(number).unwrap_or(0)))
}

/// `o3-mini`, `gpt-5-2025-08-07`, `gpt-5.5-pro`; the chat variants take what chat models take.
fn openai_tuning(name: &str) -> Tuning {
    let is_o =
        name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if is_o {
        return Tuning::NothingNorStops;
    }
    let Some(rest) = name.strip_prefix("gpt-").filter(|rest| !rest.contains("-chat")) else {
        return Tuning::All;
    };
    let number = rest.split('-').next().unwrap_or_default();
    match version(number.split('.')) {
        Some((5, 0)) => Tuning::NothingNorStops,
        Some((5.., _)) => Tuning::WithoutReasoning,
        _ => Tuning::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_generation_however_it_is_written() {
        for (model, adaptive, always, tuning) in [
            ("claude-opus-4-20250514", false, false, Tuning::All),
            ("claude-3-7-sonnet-20250219", false, false, Tuning::All),
            ("claude-opus-4-1-20250805", false, false, Tuning::OneOf),
            ("claude-haiku-4-5@20251001", false, false, Tuning::OneOf),
            ("anthropic/claude-sonnet-4.5", false, false, Tuning::OneOf),
            ("anthropic.claude-opus-4-6-v1", true, false, Tuning::OneOf),
            ("claude-opus-4-7-20260416", true, false, Tuning::Nothing),
            ("us.anthropic.claude-sonnet-5", true, false, Tuning::Nothing),
            ("claude-haiku-5-5", true, false, Tuning::Nothing),
            ("claude-opus-5-5", true, true, Tuning::Nothing),
            ("claude-mythos-preview", true, true, Tuning::Nothing),
            ("claude-fable-5-1", true, true, Tuning::Nothing),
            ("anthropic.claude-v2:1", false, false, Tuning::All),
            ("claude-instant-1", false, false, Tuning::All),
            ("o3-mini", false, false, Tuning::NothingNorStops),
            ("gpt-5-mini-2025-08-07", false, false, Tuning::NothingNorStops),
            ("openai/gpt-5.5", false, false, Tuning::WithoutReasoning),
            ("us.openai.gpt-6-sol", false, false, Tuning::WithoutReasoning),
            ("gpt-5-chat-latest", false, false, Tuning::All),
            ("gpt-4.1", false, false, Tuning::All),
            ("openai.gpt-oss-120b-1:0", false, false, Tuning::All),
            ("omni", false, false, Tuning::All),
            ("qwen3:8b", false, false, Tuning::All),
        ] {
            let expected = Traits { adaptive_thinking: adaptive, always_thinks: always, tuning };
            assert_eq!(Traits::of(model), expected, "{model}");
        }
    }
}
