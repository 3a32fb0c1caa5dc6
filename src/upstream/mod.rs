//! Talks to providers: one client each, deadlines, errors that say who failed.
//!
//! [`Upstreams::send`] makes one attempt at one provider and returns either the head of an answer
//! with its body unread, or an [`UpstreamError`] that knows whether another candidate may be
//! tried. Choosing candidates and relaying bodies is the gateway's work.

mod client;
mod error;

pub use client::{Attempt, Provider, Upstreams};
pub use error::UpstreamError;
