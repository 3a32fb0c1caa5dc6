//! Weighbridge weighs every LLM request at the gate and sends it to the cheapest model that can
//! carry it. One crate, one binary, one configuration file, the classifier inside.
//!
//! # The house, from the ground up
//!
//! | storey | module | what it does |
//! |---|---|---|
//! | words | [`units`] | money in integer nano-dollars, token counts, probabilities |
//! | words | [`protocol`] | the public wire formats: requests that keep unknown fields, SSE and AWS frames, translation between any surface and any provider's dialect |
//! | rooms | [`classify`] | text → embedding → calibrated score; the scoring queue |
//! | rooms | [`policy`] | score + needs + table → decision; pure |
//! | rooms | [`upstream`] | providers: addresses, credentials, retries, breakers, one attempt at a time, errors that say who failed |
//! | rooms | [`media`] | images and documents that callers name by address: from where they may come, how they are fetched |
//! | rooms | [`ledger`] | keys, budgets, limits, reservations, what was spent |
//! | rooms | [`telemetry`] | metric names, the log |
//! | composition | [`config`] | TOML → checked configuration, or every problem with its position |
//! | composition | [`gateway`] | one request from start to end |
//! | composition | [`evaluate`] | labelled prompts → how well scores route them |
//! | composition | [`train`] | labelled prompts → a head |
//! | doors | [`api`] | the HTTP edge, and the admin API on a listener of its own |
//! | doors | [`mock`] | the scripted upstream, which stands in for a provider |
//! | doors | [`cli`] | commands and flags |
//! | doors | [`fuzz`] | what must hold for any bytes from outside, for tests |
//!
//! A module imports only from lower storeys, and rooms never import each other; a test holds the
//! `use crate::` lines to this table.
//!
//! # One request
//!
//! [`api`] reads the body into a [`protocol::incoming::Incoming`].
//! [`gateway::Gateway::converse`] then takes the text to weigh, waits for its score within a
//! deadline, lets the policy decide, tries the route's candidates until one gives content, and
//! relays the stream: byte for byte where both sides speak the same language, translated where
//! they do not. Whatever happens, a [`gateway::Settlement`] records it: one log line, metrics,
//! cost.

pub mod api;
pub mod classify;
pub mod cli;
pub mod config;
pub mod evaluate;
pub mod fuzz;
pub mod gateway;
pub mod ledger;
pub mod media;
pub mod mock;
pub mod policy;
pub mod protocol;
pub mod telemetry;
pub mod train;
pub mod units;
pub mod upstream;
