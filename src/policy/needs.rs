//! What a request needs of a model, and what a model lacks.
//!
//! Eligibility comes before the score: a cheap model that cannot see the image is no candidate,
//! however easy the question.

use std::fmt;

use super::{Ability, Mode, ModelCard};

/// What a request needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Needs {
    /// An estimate of the prompt, tools included.
    pub prompt_tokens: u64,
    /// The caller's bound on the answer, if it set one.
    pub output_tokens: Option<u32>,
    /// In the order of [`Ability::ALL`], without repeats.
    pub abilities: Vec<Ability>,
}

/// What one model lacks for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// Prompt and answer do not fit.
    ContextWindow {
        /// Estimated prompt tokens plus the caller's bound on the answer.
        needed_tokens: u64,
        /// What the model has.
        context_window: u32,
    },
    /// The caller asks for a longer answer than the model gives.
    OutputTokens {
        /// The caller's bound.
        needed_tokens: u32,
        /// What the model gives.
        max_output_tokens: u32,
    },
    /// The model cannot do this.
    Ability(Ability),
    /// The model makes vectors, and an answer is asked for.
    Answers,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ContextWindow { needed_tokens, context_window } => {
                write!(f, "context_window ({needed_tokens} tokens needed, {context_window} there)")
            }
            Self::OutputTokens { needed_tokens, max_output_tokens } => write!(
                f,
                "max_output_tokens ({needed_tokens} tokens needed, {max_output_tokens} there)"
            ),
            Self::Ability(ability) => write!(f, "{ability}"),
            Self::Answers => f.write_str("answers (it makes embeddings)"),
        }
    }
}

impl Needs {
    /// The first thing that `model` lacks; `None` when it can serve. Unknown facts of a model
    /// reject nothing.
    pub fn unmet_by(&self, model: &ModelCard) -> Option<Lack> {
        let lacking = |ability: &&Ability| model.abilities.has(**ability) == Some(false);
        if let Some(missing) = self.abilities.iter().find(lacking) {
            return Some(Lack::Ability(*missing));
        }
        let wants_vectors = self.abilities.contains(&Ability::Embeddings);
        let makes_vectors = model.abilities.has(Ability::Embeddings) == Some(true);
        match model.mode {
            Some(Mode::Embeddings) if !wants_vectors => return Some(Lack::Answers),
            Some(Mode::Chat | Mode::Responses) if wants_vectors && !makes_vectors => {
                return Some(Lack::Ability(Ability::Embeddings));
            }
            _ => {}
        }
        if let (Some(needed), Some(max)) = (self.output_tokens, model.max_output_tokens)
            && needed > max
        {
            return Some(Lack::OutputTokens { needed_tokens: needed, max_output_tokens: max });
        }
        let needed_tokens = self.prompt_tokens + u64::from(self.output_tokens.unwrap_or(0));
        match model.context_window {
            Some(context_window) if needed_tokens > u64::from(context_window) => {
                Some(Lack::ContextWindow { needed_tokens, context_window })
            }
            _ => None,
        }
    }
}
