//! The recipe of a general head: everything that decides it besides the data and the seed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// What `--recipe FILE` holds. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Tokens that the encoder sees of a text; serving should use the same.
    pub max_tokens: usize,
    /// Strength of the ridge, by block of features.
    pub penalties: Penalties,
    /// Prompts with an authored difficulty that are trained on besides the data.
    pub authored: Option<Authored>,
    /// Copies with words stuffed behind that should score as their prompts do; absent: none.
    pub stuffing: Option<Stuffing>,
    /// Requests in two wordings that should score alike; absent: none.
    pub paraphrases: Option<Paraphrases>,
    /// Mean difficulty of a data set, or of `dataset|category`, in 0..=1. A group without an
    /// anchor keeps the mean it has.
    #[serde(default)]
    pub anchors: BTreeMap<String, f64>,
    /// `[strong, weak]` pairs by data set, which the held-out figures are computed on.
    #[serde(default)]
    pub pairs: BTreeMap<String, Vec<[String; 2]>>,
}

/// λ of each block: the weight of its squared coefficients in the objective.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Penalties {
    /// Of the embedding.
    pub embedding: f64,
    /// Of the hashed words.
    pub words: f64,
    /// Of the standardised facts.
    pub facts: f64,
}

/// Prompts with a difficulty.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authored {
    /// JSON Lines, relative to the working directory.
    pub file: PathBuf,
    /// Their share of the total weight, in 0..1.
    pub weight: f64,
}

/// See [`super::stuffing`].
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stuffing {
    /// What the copies weigh, as a share of the sum of the rows' weights; half of it stands on
    /// authored prompts. Above 0.
    pub weight: f64,
    /// A data set of `m` prompts gives at most this times `√m` copies. Above 0. Every authored
    /// prompt gives one.
    pub copies_per_root: f64,
}

/// See [`super::paraphrases`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paraphrases {
    /// JSON Lines with `id`, `prompt` and `paraphrase`, relative to the working directory.
    pub file: PathBuf,
    /// What the pairs weigh, as a share of the sum of the rows' weights. Above 0.
    pub weight: f64,
}

impl Recipe {
    /// Reads and checks a file; gives its text besides, for the record.
    pub fn read(path: &Path) -> anyhow::Result<(Self, String)> {
        let shown = path.display();
        let text =
            std::fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
        let recipe = Self::parse(&text).with_context(|| format!("{shown} cannot be used"))?;
        Ok((recipe, text))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let recipe: Self = toml::from_str(text)?;
        let Penalties { embedding, words, facts } = recipe.penalties;
        for (name, penalty) in [("embedding", embedding), ("words", words), ("facts", facts)] {
            if !(penalty > 0.0 && penalty.is_finite()) {
                bail!("penalties.{name} is {penalty}, which is not above 0");
            }
        }
        if let Some(Authored { weight, .. }) = recipe.authored
            && !(0.0..1.0).contains(&weight)
        {
            bail!("authored.weight is {weight}, which does not lie in 0..1");
        }
        if let Some(Stuffing { weight, copies_per_root }) = recipe.stuffing {
            for (name, value) in [("weight", weight), ("copies_per_root", copies_per_root)] {
                if !(value > 0.0 && value.is_finite()) {
                    bail!("stuffing.{name} is {value}, which is not above 0");
                }
            }
        }
        if let Some(Paraphrases { weight, .. }) = recipe.paraphrases
            && !(weight > 0.0 && weight.is_finite())
        {
            bail!("paraphrases.weight is {weight}, which is not above 0");
        }
        if let Some((group, anchor)) =
            recipe.anchors.iter().find(|(_, anchor)| !(0.0..=1.0).contains(*anchor))
        {
            bail!("anchors.\"{group}\" is {anchor}, which does not lie in 0..1");
        }
        if !(8..=512).contains(&recipe.max_tokens) {
            bail!("max_tokens is {}, which does not lie in 8..512", recipe.max_tokens);
        }
        Ok(recipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "max_tokens = 256\npenalties = { embedding = 10, words = 5, facts = 100 }\n";

    fn refusal(more: &str) -> String {
        format!("{:#}", Recipe::parse(&format!("{GOOD}{more}")).unwrap_err())
    }

    #[test]
    fn what_it_does_not_know_or_cannot_use_is_refused() {
        assert!(Recipe::parse(GOOD).unwrap().anchors.is_empty());
        for (more, fault) in [
            ("lambda = 3", "unknown field `lambda`"),
            ("authored = { file = \"a\", weight = 1.0 }", "authored.weight is 1"),
            ("stuffing = { weight = 0, copies_per_root = 1 }", "stuffing.weight is 0"),
            ("paraphrases = { file = \"a\", weight = 0 }", "paraphrases.weight is 0"),
            ("[anchors]\n\"d|c\" = 1.5", "anchors.\"d|c\" is 1.5"),
            ("[pairs]\nd = [[\"strong\"]]", "expected an array of length 2"),
        ] {
            assert!(refusal(more).contains(fault), "{}", refusal(more));
        }
    }

    #[test]
    fn the_shipped_recipe_is_a_recipe() {
        let text = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/models/weighbridge-minilm/recipe.toml"
        ));
        let max_tokens = Recipe::parse(text).unwrap().max_tokens;
        assert_eq!(max_tokens, crate::classify::model::DEFAULT_MAX_TOKENS, "served as trained");
    }
}
