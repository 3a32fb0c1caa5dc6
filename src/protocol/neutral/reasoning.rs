//! How much a model is asked to reason: in words, in tokens, and from one to the other.

/// How much to reason.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reasoning {
    /// In words.
    pub effort: Option<Effort>,
    /// In tokens; goes before the words where both can be said.
    pub budget_tokens: Option<u32>,
    /// Anthropic's `adaptive`: the model decides how much.
    pub adaptive: bool,
    /// OpenAI responses' `reasoning.summary`: `auto`, `concise`, `detailed`.
    pub summary: Option<String>,
}

/// How much to reason, in OpenAI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// Not at all.
    None,
    /// As little as possible.
    Minimal,
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// As much as possible; Anthropic says `max`.
    XHigh,
}

impl Effort {
    /// Reads a word of any dialect.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "xhigh" | "max" => Self::XHigh,
            _ => return None,
        })
    }

    /// OpenAI's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
        }
    }

    /// Tokens for a word. Low to high are Google's table ("OpenAI compatibility, thinking");
    /// the largest is chosen.
    pub fn budget_tokens(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Minimal | Self::Low => 1024,
            Self::Medium => 8192,
            Self::High => 24576,
            Self::XHigh => 32768,
        }
    }
}

impl Reasoning {
    /// Whether the model is asked to reason at all.
    pub fn is_wanted(&self) -> bool {
        self.adaptive || self.effort().is_some_and(|effort| effort != Effort::None)
    }

    /// The amount in words: said, or the nearest to the budget.
    pub fn effort(&self) -> Option<Effort> {
        let nearest = |budget| match budget {
            0 => Effort::None,
            1..=4096 => Effort::Low,
            4097..=16384 => Effort::Medium,
            _ => Effort::High,
        };
        self.effort.or(self.budget_tokens.map(nearest))
    }

    /// The amount in tokens: said, or the table's for the word; 0 is no reasoning.
    pub fn budget_tokens(&self) -> Option<u32> {
        self.budget_tokens.or(self.effort.map(Effort::budget_tokens))
    }
}
