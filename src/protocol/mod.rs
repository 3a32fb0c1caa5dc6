//! The public wire formats, as types: what clients send and what providers answer.
//!
//! Nothing here knows of policies, keys or sockets. Where caller and provider speak the same
//! language, requests keep every field that they arrived with and streams are read frame by
//! frame while their bytes pass untouched: read [`chat`] first, then [`sse`]. Where they do not,
//! everything goes through one neutral form: read [`neutral`], then [`translate`].

pub mod anthropic;
pub mod bedrock;
pub mod chat;
pub mod chunk;
pub mod cohere;
pub mod embeddings;
pub mod event_stream;
pub mod failure;
pub mod fields;
pub mod gemini;
pub mod incoming;
pub mod json;
pub mod neutral;
pub mod openai_chat;
pub mod openai_completions;
pub mod openai_responses;
pub mod sse;
pub mod translate;
