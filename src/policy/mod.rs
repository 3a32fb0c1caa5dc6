//! Scores + facts about the request + table → decision. Pure: no async, no clock, no I/O.
//!
//! A [`Policy`] is an ordered list of tiers with rising thresholds. [`Policy::decide`] filters the
//! candidates by what the request needs, lets the score pick the tier, and returns the whole
//! route: the candidates to try, in order, with the reason. The gateway and the offline
//! commands call the same function, so a recorded decision can be replayed.

mod abilities;
mod decide;
mod needs;
pub mod order;
pub mod session;

pub use abilities::{Abilities, Ability};
pub use decide::{Candidate, Decision, Override, Reason, Rejection};
pub use needs::{Lack, Needs};
pub use order::{Arrangement, Load, Modifier, Order};

use crate::units::{Price, Probability};

/// What the configuration says of one model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelCard {
    /// The name callers and policies use.
    pub name: String,
    /// The provider that serves it.
    pub provider: String,
    /// The name sent to that provider.
    pub upstream_name: String,
    /// Prompt and completion tokens together; `None` when unknown, which rejects nothing.
    pub context_window: Option<u32>,
    /// Completion tokens at most; `None` when unknown.
    pub max_output_tokens: Option<u32>,
    /// `None` when unknown: then no cost is reported.
    pub price: Option<Price>,
    /// Prices that take its place later, oldest first.
    pub price_changes: Vec<PriceChange>,
    /// What the model can do; what is unknown rejects nothing.
    pub abilities: Abilities,
    /// What it is asked through; `None` when unknown.
    pub mode: Option<Mode>,
}

/// A price that holds from a moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceChange {
    /// The moment, milliseconds since 1970.
    pub from_ms: i64,
    /// The price.
    pub price: Price,
}

/// The endpoint that a model answers on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Chat, and what is translated into it.
    #[default]
    Chat,
    /// OpenAI's responses only.
    Responses,
    /// Embeddings only.
    Embeddings,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Chat, Self::Responses, Self::Embeddings];
    /// Their names, in the order of [`Self::ALL`].
    pub const NAMES: [&str; 3] = ["chat", "responses", "embeddings"];

    /// The spelling in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
        }
    }

    /// The mode with this spelling.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

impl ModelCard {
    /// A model of which nothing else is known.
    pub fn named(name: &str, provider: &str) -> Self {
        Self {
            name: name.to_owned(),
            provider: provider.to_owned(),
            upstream_name: name.to_owned(),
            ..Self::default()
        }
    }

    /// The price that holds at a moment, milliseconds since 1970.
    pub fn price_at(&self, time_ms: i64) -> Option<Price> {
        let changes = self.price_changes.iter().rev();
        let change = changes.into_iter().find(|change| change.from_ms <= time_ms);
        change.map(|change| change.price).or(self.price)
    }

    /// Whether the model can do this, or nobody has said that it cannot.
    pub fn can(&self, ability: Ability) -> bool {
        self.abilities.has(ability) != Some(false)
    }
}

/// One tier: the models for requests below its threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Tier {
    /// Unique within its policy.
    pub name: String,
    /// Requests that score below this belong here; `None` on the last tier only.
    pub below: Option<Probability>,
    /// Indexes into the catalogue, in order of preference; never empty.
    pub models: Vec<usize>,
}

/// A policy that [`Policy::new`] has checked: deciding cannot fail.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    name: String,
    tiers: Vec<Tier>,
    default_tier: usize,
    settings: PolicySettings,
}

/// What a policy says besides its tiers.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySettings {
    /// Which rejections another model may be asked about.
    pub fallback: Fallback,
    /// How each tier is ordered; a tier without an entry as it is listed.
    pub arrangements: Vec<Arrangement>,
    /// Whether conversations keep their model, see [`session`].
    pub sessions: bool,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self { fallback: Fallback::default(), arrangements: Vec::new(), sessions: true }
    }
}

/// Which of a provider's rejections another model may be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    /// The request does not fit its window: a model with a larger one may take it.
    pub context_length: bool,
    /// Its filter refused: another provider's may not.
    pub content_policy: bool,
}

/// Chosen: a longer window changes nothing in what is asked; a refusal is a provider's word.
impl Default for Fallback {
    fn default() -> Self {
        Self { context_length: true, content_policy: false }
    }
}

/// Why a list of tiers is no policy. The configuration reports these with their position.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// There is nothing to choose from.
    #[error("a policy needs at least one tier")]
    NoTiers,
    /// A tier other than the last has no threshold, or the last has one.
    #[error("every tier but the last has `below`, and the last has none (tier `{0}`)")]
    Threshold(String),
    /// Thresholds do not rise.
    #[error("`below` of tier `{0}` must be greater than that of the tier before it")]
    NotRising(String),
    /// A tier without models.
    #[error("tier `{0}` lists no models")]
    NoModels(String),
    /// Two tiers share a name.
    #[error("two tiers are named `{0}`")]
    DuplicateTier(String),
}

impl Policy {
    /// Checks the tiers. `default_tier` is an index into them.
    pub fn new(name: String, tiers: Vec<Tier>, default_tier: usize) -> Result<Self, PolicyError> {
        let last = tiers.len().checked_sub(1).ok_or(PolicyError::NoTiers)?;
        let mut previous: Option<Probability> = None;
        for (index, tier) in tiers.iter().enumerate() {
            if tier.below.is_none() != (index == last) {
                return Err(PolicyError::Threshold(tier.name.clone()));
            }
            if let (Some(before), Some(below)) = (previous, tier.below)
                && below <= before
            {
                return Err(PolicyError::NotRising(tier.name.clone()));
            }
            if tier.models.is_empty() {
                return Err(PolicyError::NoModels(tier.name.clone()));
            }
            if tiers.iter().take(index).any(|other| other.name == tier.name) {
                return Err(PolicyError::DuplicateTier(tier.name.clone()));
            }
            previous = tier.below;
        }
        let settings = PolicySettings::default();
        Ok(Self { name, tiers, default_tier: default_tier.min(last), settings })
    }

    /// The same with other settings.
    pub fn with_settings(self, settings: PolicySettings) -> Self {
        Self { settings, ..self }
    }

    /// What it says besides its tiers.
    pub fn settings(&self) -> &PolicySettings {
        &self.settings
    }

    /// The name callers put in `model`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Cheapest first; never empty.
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// The tier that serves when there is no score.
    pub fn default_tier(&self) -> &Tier {
        // `new` keeps the index within bounds.
        &self.tiers[self.default_tier]
    }
}
