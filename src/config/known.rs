//! Providers whose address need not be written down.
//!
//! All of them answer `chat/completions` in OpenAI's format under their base URL. Sources: the
//! providers' own API references, section on OpenAI compatibility, read in November 2026.

/// A provider with a public, OpenAI-compatible endpoint.
#[derive(Debug, Clone, Copy)]
pub struct KnownProvider {
    /// Its name in configurations.
    pub name: &'static str,
    /// The environment variable that its own SDK reads.
    pub api_key_env: &'static str,
    /// The address.
    pub base_url: &'static str,
    /// A model for light requests, used when there is no configuration.
    pub cheap: KnownModel,
    /// A model for heavy requests, used when there is no configuration.
    pub strong: KnownModel,
}

/// A model with its list price, as published on the date in the comment beside it.
#[derive(Debug, Clone, Copy)]
pub struct KnownModel {
    /// The provider's name for it.
    pub name: &'static str,
    /// Prompt tokens, nano-dollars a million.
    pub input_nano_usd_per_mtok: u64,
    /// Completion tokens, nano-dollars a million.
    pub output_nano_usd_per_mtok: u64,
    /// Cached prompt tokens, nano-dollars a million.
    pub cached_input_nano_usd_per_mtok: u64,
}

/// A model with prices in thousandths of a dollar a million tokens.
const fn model(name: &'static str, input: u64, output: u64, cached: u64) -> KnownModel {
    KnownModel {
        name,
        input_nano_usd_per_mtok: input * 1_000_000,
        output_nano_usd_per_mtok: output * 1_000_000,
        cached_input_nano_usd_per_mtok: cached * 1_000_000,
    }
}

/// In the order in which they are preferred when several keys are set.
pub const KNOWN_PROVIDERS: [KnownProvider; 6] = [
    KnownProvider {
        name: "openai",
        api_key_env: "OPENAI_API_KEY",
        base_url: "https://api.openai.com/v1",
        // list prices of 2026-06-12
        cheap: model("gpt-5.4-nano", 200, 1_250, 20),
        strong: model("gpt-5.5", 5_000, 30_000, 500),
    },
    KnownProvider {
        name: "anthropic",
        api_key_env: "ANTHROPIC_API_KEY",
        base_url: "https://api.anthropic.com/v1",
        // list prices of 2026-09-22
        cheap: model("claude-haiku-4-5", 1_000, 5_000, 100),
        strong: model("claude-sonnet-5", 2_000, 10_000, 200),
    },
    KnownProvider {
        name: "gemini",
        api_key_env: "GEMINI_API_KEY",
        base_url: "https://generativelanguage.googleapis.com/v1beta/openai",
        // list prices of 2026-05-11
        cheap: model("gemini-2.5-flash", 300, 2_500, 75),
        strong: model("gemini-2.5-pro", 1_250, 10_000, 310),
    },
    KnownProvider {
        name: "groq",
        api_key_env: "GROQ_API_KEY",
        base_url: "https://api.groq.com/openai/v1",
        // list prices of 2025-10
        cheap: model("llama-3.1-8b-instant", 50, 80, 50),
        strong: model("llama-3.3-70b-versatile", 590, 790, 590),
    },
    KnownProvider {
        name: "mistral",
        api_key_env: "MISTRAL_API_KEY",
        base_url: "https://api.mistral.ai/v1",
        // list prices of 2025-10
        cheap: model("mistral-small-latest", 100, 300, 100),
        strong: model("mistral-large-latest", 2_000, 6_000, 2_000),
    },
    KnownProvider {
        name: "deepseek",
        api_key_env: "DEEPSEEK_API_KEY",
        base_url: "https://api.deepseek.com/v1",
        // list prices of 2025-10
        cheap: model("deepseek-chat", 280, 420, 28),
        strong: model("deepseek-reasoner", 280, 420, 28),
    },
];
