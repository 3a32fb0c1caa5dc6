//! The values of a budget: read, checked, and refused with what to write instead.

use jiff::tz::TimeZone;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    error::AdminError,
    read::{Whole, dollars},
};
use crate::{
    config::{Config, did_you_mean},
    ledger::budget::{Unit, Window},
};

/// Most shares at which one budget warns (chosen).
const MAX_WARNINGS: usize = 20;

/// A share in percent.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[schema(value_type = u8, minimum = 1, maximum = 100)]
pub(super) struct Percent(Whole);

pub(super) fn check_model(name: &str, config: &Config) -> Result<(), AdminError> {
    let names = || config.models.iter().map(|card| card.name.as_str());
    if names().any(|known| known == name) {
        return Ok(());
    }
    let help = did_you_mean(name, names())
        .unwrap_or_else(|| format!("known: {}", names().collect::<Vec<_>>().join(", ")));
    let message = format!("the model `{name}` is not configured; {help}");
    Err(AdminError::Value { param: "scope.id", message })
}

/// The amount, in the unit's own counting; `None` when none was sent.
pub(super) fn amount(
    unit: Unit,
    amount: Option<Whole>,
    amount_usd: Option<String>,
) -> Result<Option<i64>, AdminError> {
    let wrong = |param, message: &str| AdminError::Value { param, message: message.to_owned() };
    match (amount.map(|Whole(amount)| amount), amount_usd) {
        (Some(_), Some(_)) => {
            Err(wrong("amount_usd", "says the same as `amount`; leave out one of them"))
        }
        (None, Some(_)) if unit != Unit::NanoUsd => {
            Err(wrong("amount_usd", "is for the unit `nano_usd`; write `amount`"))
        }
        (None, Some(text)) => Ok(Some(dollars("amount_usd", &text)?.0)),
        (Some(amount), None) if amount < 0 => {
            Err(wrong("amount", "is less than nothing; write 0 or more"))
        }
        (amount, None) => Ok(amount),
    }
}

pub(super) fn window(unit: Unit, text: Option<String>) -> Result<Window, AdminError> {
    let wrong = |message| AdminError::Value { param: "window", message };
    match (unit, text) {
        // Without meaning for this unit, see [`Budget::window`].
        (Unit::Concurrent, None) => Ok(Window::Total),
        (Unit::Concurrent, Some(_)) => {
            Err(wrong("places at the same time have no window; leave it out".to_owned()))
        }
        (_, None) => Err(wrong(format!("is missing; use {}", Window::SPELLINGS))),
        (_, Some(text)) => Window::parse(&text)
            .ok_or_else(|| wrong(format!("`{text}` is not a window; use {}", Window::SPELLINGS))),
    }
}

pub(super) fn time_zone(name: String) -> Result<String, AdminError> {
    if TimeZone::get(&name).is_ok() {
        return Ok(name);
    }
    let message = format!("`{name}` is not a time zone; use an IANA name, like \"Europe/Berlin\"");
    Err(AdminError::Value { param: "time_zone", message })
}

pub(super) fn shares(sent: Vec<Percent>) -> Result<Vec<u8>, AdminError> {
    let share = |sent: &Percent| u8::try_from(sent.0.0).ok().filter(|s| (1..=100).contains(s));
    let shares: Option<Vec<u8>> = sent.iter().map(share).collect();
    let shares = shares.filter(|shares| shares.len() <= MAX_WARNINGS);
    let mut shares = shares.ok_or_else(|| AdminError::Value {
        param: "warn_at_percent",
        message: format!("write at most {MAX_WARNINGS} shares from 1 to 100"),
    })?;
    shares.sort_unstable();
    shares.dedup();
    Ok(shares)
}
