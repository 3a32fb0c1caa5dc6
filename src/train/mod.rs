//! Labelled prompts → a head.
