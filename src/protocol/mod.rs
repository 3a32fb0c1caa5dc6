//! The public wire formats, as types: what clients send and what providers answer.
//!
//! Nothing here knows of policies, keys or sockets. Requests keep every field that they
//! arrived with; streams are read frame by frame while their bytes pass untouched.
//! Read [`chat`] first, then [`sse`].

pub mod chat;
pub mod chunk;
pub mod json;
pub mod sse;
