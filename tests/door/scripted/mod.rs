//! The scripted upstream, seen from a socket.

mod answers;
mod misbehaviour;
mod recording;
mod tools;
mod validation;
mod wire;
