//! Talks to providers: how each is addressed, what can go wrong, and when to ask again.
//!
//! [`Upstreams::begin`] opens the tries at one model. [`Tries::next`] names a deployment and a
//! credential, or says that nothing is left; [`Upstreams::send`] makes that one attempt and
//! returns either the head of an answer with its body unread or an [`UpstreamError`]. Choosing
//! models and relaying bodies is the gateway's work. Read `provider` first, then `tries`.

mod address;
mod client;
mod connect;
mod error;
mod health;
mod provider;
mod sign;
mod tries;

pub use address::Operation;
pub use client::{Attempt, Call, ClientError, Limits, Upstreams};
pub use error::UpstreamError;
pub use health::{BreakerSettings, Observed};
pub use provider::{Api, AwsKeys, Credential, Deployment, Provider, Quirks};
pub use tries::{Slot, Tries, draw};
