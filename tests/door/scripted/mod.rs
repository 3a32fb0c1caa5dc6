//! The scripted upstream, seen from a socket.

mod answers;
mod dialects;
mod misbehaviour;
mod recording;
mod tools;
mod validation;
mod wire;
