//! What the product knows of providers and models before anybody configures them, as data.
//!
//! [`provider`] says where a provider listens and what it speaks. A configuration overrides all
//! of it.

pub mod provider;

pub use provider::{Auth, JsonSchema, ProviderEntry, Quirks, ToolCallIds, find};
