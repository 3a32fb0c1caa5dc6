//! Keys, budgets, limits, and the record of what was spent.
//!
//! Words first: [`tenant`] says who may ask, [`budget`] what they may spend, [`row`] what one
//! request did. Nothing here knows HTTP.

pub mod budget;
pub mod journal;
pub mod meter;
pub mod row;
pub mod secret;
pub mod tenant;
pub mod window;
