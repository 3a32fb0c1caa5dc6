//! Signatures over a model's reasoning: opaque, and valid only for the model that made them.
//!
//! Providers refuse a conversation whose reasoning carries another model's signature. A surface
//! has room for a signature but not for its maker, so when an answer crosses dialects its maker
//! is written into the text (`weighbridge:gemini:gemini-3-pro:…`); the caller sends it back
//! verbatim, and it reaches that model again and no other. No state is kept.

use super::Dialect;

/// The first word of a signature that says who made it.
const TAG: &str = "weighbridge";
/// How a tagged signature begins, as it stands in JSON.
pub const SIGNATURE_TAG: &str = "\"weighbridge:";

/// A signature and, as far as it is known, who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The provider's own bytes.
    pub value: String,
    /// Whose it is.
    pub maker: Maker,
}

/// Who made a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maker {
    /// The dialect in which it was received.
    pub dialect: Dialect,
    /// The provider's name of the model; `None` when the caller's request does not tell.
    pub model: Option<String>,
}

impl Signature {
    /// A signature as a provider sent it.
    pub fn made(value: impl Into<String>, dialect: Dialect, model: &str) -> Self {
        let model = (!model.is_empty()).then(|| model.to_owned());
        Self { value: value.into(), maker: Maker { dialect, model } }
    }

    /// The same, unless there is none.
    pub fn some(value: Option<String>, dialect: Dialect, model: &str) -> Option<Self> {
        let value = value.filter(|text| !text.is_empty())?;
        Some(Self::made(value, dialect, model))
    }

    /// A signature as a caller sent it on a surface; `None` when it is empty.
    pub fn read(text: &str, surface: Dialect) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let tagged = || {
            let rest = text.strip_prefix(TAG)?.strip_prefix(':')?;
            let (dialect, rest) = rest.split_once(':')?;
            // A Bedrock model's name has a colon itself, a base64 signature never.
            let (model, value) = rest.rsplit_once(':')?;
            Some(Self::made(value, Dialect::from_name(dialect)?, model))
        };
        Some(tagged().unwrap_or_else(|| Self::made(text, surface, "")))
    }

    /// The signature as it goes to a caller on a surface.
    pub fn write(&self, surface: Dialect) -> String {
        if self.maker.dialect == surface {
            return self.value.clone();
        }
        let model = self.maker.model.as_deref().unwrap_or_default();
        format!("{TAG}:{}:{model}:{}", self.maker.dialect.name(), self.value)
    }

    /// Whether it may go to this model. `previous_model` is the model that served the
    /// conversation so far, if the gateway knows; it stands in for an unknown maker.
    pub fn fits(&self, dialect: Dialect, model: &str, previous_model: Option<&str>) -> bool {
        let maker = self.maker.model.as_deref().or(previous_model);
        self.maker.dialect == dialect && maker.is_none_or(|maker| same_model(maker, model))
    }
}

/// Providers answer with a dated name (`gpt-5-2025-08-07`) to a request for an undated one.
fn same_model(a: &str, b: &str) -> bool {
    let dated = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| {
            rest.starts_with(['-', '@', ':']) && rest.chars().all(|c| !c.is_ascii_alphabetic())
        })
    };
    a == b || dated(a, b) || dated(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_comes_back_to_its_maker_and_to_no_other() {
        let made = Signature::made("q+/=", Dialect::Bedrock, "eu.anthropic.claude-v1:0");
        let text = made.write(Dialect::Anthropic);
        let back = Signature::read(&text, Dialect::Anthropic).unwrap();
        assert_eq!(back, made);
        assert!(back.fits(Dialect::Bedrock, "eu.anthropic.claude-v1:0", None));
        assert!(!back.fits(Dialect::Bedrock, "eu.anthropic.claude-v2:0", None));
        assert!(!back.fits(Dialect::Anthropic, "eu.anthropic.claude-v1:0", None));
    }

    #[test]
    fn an_untold_maker_is_the_model_that_served_before() {
        let native = Signature::read("abc", Dialect::Anthropic).unwrap();
        assert!(native.fits(Dialect::Anthropic, "claude-a", None));
        assert!(native.fits(Dialect::Anthropic, "claude-a", Some("claude-a-20260101")));
        assert!(!native.fits(Dialect::Anthropic, "claude-a", Some("claude-a-mini")));
        assert_eq!(Signature::read("", Dialect::Anthropic), None);
    }
}
