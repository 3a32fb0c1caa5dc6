//! What models can do, as far as it is known.

use std::{collections::BTreeMap, fmt};

/// Something a model can do and a request can require.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ability {
    /// Calls tools.
    Tools,
    /// Calls several tools in one answer.
    ParallelTools,
    /// Sees images.
    Images,
    /// Hears audio.
    Audio,
    /// Reads attached documents.
    Documents,
    /// Answers in a given JSON schema.
    JsonSchema,
    /// Thinks before it answers, at a given effort.
    Reasoning,
    /// Answers piece by piece.
    Streaming,
    /// Turns texts into vectors.
    Embeddings,
}

impl Ability {
    /// Every ability, in the order they are reported.
    pub const ALL: [Self; 9] = [
        Self::Tools,
        Self::ParallelTools,
        Self::Images,
        Self::Audio,
        Self::Documents,
        Self::JsonSchema,
        Self::Reasoning,
        Self::Streaming,
        Self::Embeddings,
    ];

    /// Those that a list of abilities is complete about: what it leaves out is lacking. Of the
    /// others it says nothing unless it names them.
    const LISTED: [Self; 6] = [
        Self::Tools,
        Self::Images,
        Self::Audio,
        Self::Documents,
        Self::JsonSchema,
        Self::Reasoning,
    ];

    /// The spelling in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::ParallelTools => "parallel_tools",
            Self::Images => "images",
            Self::Audio => "audio",
            Self::Documents => "documents",
            Self::JsonSchema => "json_schema",
            Self::Reasoning => "reasoning",
            Self::Streaming => "streaming",
            Self::Embeddings => "embeddings",
        }
    }

    /// The ability with this spelling.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ability| ability.name() == name)
    }
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a model can and cannot do. Most facts about most models are known to nobody: an ability
/// that is neither affirmed nor denied rejects nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abilities(BTreeMap<Ability, bool>);

impl Abilities {
    /// Whether the model has it; `None` when that is unknown.
    pub fn has(&self, ability: Ability) -> Option<bool> {
        self.0.get(&ability).copied()
    }

    /// Affirms or denies one.
    pub fn set(&mut self, ability: Ability, has: bool) {
        self.0.insert(ability, has);
    }

    /// Nothing is affirmed or denied.
    pub fn is_unknown(&self) -> bool {
        self.0.is_empty()
    }

    /// Those affirmed, in the order of [`Ability::ALL`].
    pub fn affirmed(&self) -> impl Iterator<Item = Ability> + '_ {
        self.known(true)
    }

    /// Those denied, in the order of [`Ability::ALL`].
    pub fn denied(&self) -> impl Iterator<Item = Ability> + '_ {
        self.known(false)
    }

    fn known(&self, wanted: bool) -> impl Iterator<Item = Ability> + '_ {
        Ability::ALL.into_iter().filter(move |ability| self.has(*ability) == Some(wanted))
    }

    /// What is known here, and what `base` knows besides.
    pub fn over(mut self, base: &Self) -> Self {
        for (ability, has) in &base.0 {
            self.0.entry(*ability).or_insert(*has);
        }
        self
    }

    /// Reads what [`fmt::Display`] writes; the word that is no ability otherwise.
    pub fn parse(text: &str) -> Result<Self, &str> {
        let mut abilities = Self::default();
        for word in text.split_whitespace() {
            let (name, has) = word.strip_prefix('-').map_or((word, true), |name| (name, false));
            abilities.set(Ability::from_name(name).ok_or(word)?, has);
        }
        Ok(abilities)
    }
}

/// A list of what a model can do: it lacks the usual abilities that the list leaves out.
impl FromIterator<Ability> for Abilities {
    fn from_iter<I: IntoIterator<Item = Ability>>(listed: I) -> Self {
        let mut abilities = Self(Ability::LISTED.map(|ability| (ability, false)).into());
        for ability in listed {
            abilities.set(ability, true);
        }
        abilities
    }
}

/// Names, those denied behind a minus: `tools images -audio`.
impl fmt::Display for Abilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.affirmed().map(|a| ("", a)).chain(self.denied().map(|a| ("-", a)));
        for (at, (sign, ability)) in words.enumerate() {
            write!(f, "{}{sign}{ability}", if at > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_denies_the_usual_abilities_it_leaves_out_and_says_nothing_of_the_others() {
        let listed: Abilities = [Ability::Tools].into_iter().collect();
        assert_eq!(listed.has(Ability::Tools), Some(true));
        assert_eq!(listed.has(Ability::Images), Some(false));
        assert_eq!(listed.has(Ability::Streaming), None);
        assert_eq!(listed.to_string(), "tools -images -audio -documents -json_schema -reasoning");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["", "tools streaming -audio", "-embeddings"] {
            assert_eq!(Abilities::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Abilities::parse("tools -speech"), Err("-speech"));
    }

    #[test]
    fn the_upper_layer_wins_and_the_lower_one_fills_the_gaps() {
        let base = Abilities::parse("tools images -audio").unwrap();
        let top = Abilities::parse("-images streaming").unwrap();
        assert_eq!(top.over(&base).to_string(), "tools streaming -images -audio");
    }
}
