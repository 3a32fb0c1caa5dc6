//! From text to a calibrated score: the classifier that runs inside the process.
//!
//! [`extract`] picks the text, [`tokenize`] cuts it to a bounded number of tokens, an encoder
//! turns it into one embedding, and [`head`] weighs embedding, words and cheap facts into a
//! score in 0..=1: how likely a small model's answer would not do. [`model`] loads all of that
//! from one directory. [`queue`] keeps it on threads of its own, behind a bounded queue and a
//! deadline, so that the server never waits for arithmetic.

pub mod bert;
pub mod candle;
pub mod cpu;
pub mod encoder;
pub mod extract;
pub mod facts;
pub mod head;
#[cfg(feature = "hub")]
pub mod hub;
pub mod model;
pub mod queue;
pub mod repeats;
pub mod tokenize;
pub mod wordpiece;
