//! Keys, budgets, limits, and the record of what was spent.
//!
//! Words first: [`tenant`] says who may ask, [`budget`] what they may spend, [`row`] what one
//! request did. [`secret`] makes keys, [`store`] keeps everything in a database. Nothing here
//! knows HTTP.

pub mod budget;
pub mod row;
pub mod secret;
pub mod store;
pub mod tenant;
