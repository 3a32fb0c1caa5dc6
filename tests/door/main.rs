//! Through the door: the real router over the scripted upstream, each on a port of its own, and
//! the real binary. Data in, expectation out.

mod admin;
mod bad_input;
mod binary;
mod catalogue;
mod clients;
mod decisions;
mod deployments;
mod dialects;
mod embeddings;
mod eval;
mod failures;
mod fuzz;
mod house;
mod ledger;
mod ledger_commands;
mod media;
mod misbehaviour;
mod offline;
mod operations;
mod parity;
mod reasoning;
mod receiver;
mod scripted;
mod sessions;
mod several;
mod streams;
mod tidy;
mod tls;
mod train;
mod translation;
mod wordpiece;
