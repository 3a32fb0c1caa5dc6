//! What may be spent: an amount of something, in a window of time, by a scope.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::tenant::{Origin, Scope, new_id};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nano-dollars.
    NanoUsd,
    /// Prompt and completion tokens together.
    Tokens,
    /// Requests.
    Requests,
    /// Requests at the same time; has no window.
    Concurrent,
}

impl Unit {
    /// Every unit.
    pub const ALL: [Self; 4] = [Self::NanoUsd, Self::Tokens, Self::Requests, Self::Concurrent];
    /// Their names, in the order of [`Self::ALL`].
    pub const NAMES: [&str; 4] = ["nano_usd", "tokens", "requests", "concurrent"];

    /// The spelling in JSON and the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::NanoUsd => "nano_usd",
            Self::Tokens => "tokens",
            Self::Requests => "requests",
            Self::Concurrent => "concurrent",
        }
    }

    /// The unit with this spelling.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }
}

/// A stretch of civil time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// From the full minute.
    Minute,
    /// From the full hour.
    Hour,
    /// From midnight.
    Day,
    /// From Monday's midnight (ISO 8601).
    Week,
    /// From the first of the month.
    Month,
}

/// The time over which a budget or limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// The current minute, hour, day, week or month of a time zone.
    Civil(Period),
    /// The last so many seconds.
    Rolling(u32),
    /// For ever.
    Total,
}

/// Longest rolling window in seconds: 366 days.
pub const MAX_ROLLING_S: u32 = 366 * 24 * 60 * 60;

impl Window {
    /// The spellings that [`Self::parse`] takes, for messages.
    pub const SPELLINGS: &str =
        "minute, hour, day, week, month, total, or rolling-N with s, m, h or d, like rolling-24h";

    /// Reads `day`, `rolling-24h`, `total`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "minute" => Self::Civil(Period::Minute),
            "hour" => Self::Civil(Period::Hour),
            "day" => Self::Civil(Period::Day),
            "week" => Self::Civil(Period::Week),
            "month" => Self::Civil(Period::Month),
            "total" => Self::Total,
            _ => {
                let length = text.strip_prefix("rolling-")?;
                let unit = length.chars().last()?;
                let number: u32 = length.strip_suffix(unit)?.parse().ok()?;
                let seconds = match unit {
                    's' => number,
                    'm' => number.checked_mul(60)?,
                    'h' => number.checked_mul(60 * 60)?,
                    'd' => number.checked_mul(24 * 60 * 60)?,
                    _ => return None,
                };
                (1..=MAX_ROLLING_S).contains(&seconds).then_some(Self::Rolling(seconds))?
            }
        })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self {
            Self::Civil(Period::Minute) => return f.write_str("minute"),
            Self::Civil(Period::Hour) => return f.write_str("hour"),
            Self::Civil(Period::Day) => return f.write_str("day"),
            Self::Civil(Period::Week) => return f.write_str("week"),
            Self::Civil(Period::Month) => return f.write_str("month"),
            Self::Total => return f.write_str("total"),
            Self::Rolling(seconds) => match seconds {
                s if s % 86_400 == 0 => (s / 86_400, 'd'),
                s if s % 3_600 == 0 => (s / 3_600, 'h'),
                s if s % 60 == 0 => (s / 60, 'm'),
                s => (*s, 's'),
            },
        };
        write!(f, "rolling-{number}{unit}")
    }
}

impl Serialize for Window {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            let message = format!("`{text}` is not a window; use {}", Self::SPELLINGS);
            serde::de::Error::custom(message)
        })
    }
}

/// What happens to a request that a hard budget cannot pay for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenSpent {
    /// It is refused: 402.
    #[default]
    Reject,
    /// Only its policy's first tier may serve, outside the budget.
    CheapTier,
    /// Only models whose price is zero may serve.
    FreeModels,
}

impl WhenSpent {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Reject, Self::CheapTier, Self::FreeModels];
    /// Their names, in the order of [`Self::ALL`].
    pub const NAMES: [&str; 3] = ["reject", "cheap_tier", "free_models"];

    /// The spelling in flags, JSON and the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::CheapTier => "cheap_tier",
            Self::FreeModels => "free_models",
        }
    }

    /// The choice with this spelling.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.name() == name)
    }
}

/// Whether running out is a matter of money or of pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// 402: wait for the next window, or for more money.
    Budget,
    /// 429: come back soon.
    Limit,
}

impl Kind {
    /// The spelling in JSON and the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Limit => "limit",
        }
    }
}

/// A budget, or a limit, which is a budget of requests, tokens or places at the same time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// `budget_…` or `limit_…`
    pub id: String,
    /// Money or pace.
    pub kind: Kind,
    /// Whose it is.
    pub scope: Scope,
    /// What is counted.
    pub unit: Unit,
    /// How much of it may be used in a window; at least 0.
    pub amount: i64,
    /// The window; without meaning for [`Unit::Concurrent`].
    pub window: Window,
    /// The time zone of a civil window, an IANA name; `None`: that of the configuration.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// A soft budget only warns.
    pub hard: bool,
    /// What happens when a hard one is spent.
    #[serde(default)]
    pub when_spent: WhenSpent,
    /// Shares of the amount, in percent from 1 to 100, at which a warning is sent, once a window.
    #[serde(default)]
    pub warn_at_percent: Vec<u8>,
    /// When it was made, milliseconds since 1970.
    pub created_ms: i64,
    /// Who owns the record.
    #[serde(default)]
    pub origin: Origin,
}

impl Budget {
    /// A hard budget or limit with a new id, which warns of nothing.
    pub fn new(
        kind: Kind,
        scope: Scope,
        (unit, amount): (Unit, i64),
        window: Window,
        now_ms: i64,
    ) -> Self {
        Self {
            id: new_id(kind.name()),
            kind,
            scope,
            unit,
            amount,
            window,
            time_zone: None,
            hard: true,
            when_spent: WhenSpent::default(),
            warn_at_percent: Vec::new(),
            created_ms: now_ms,
            origin: Origin::Admin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_back_as_they_were_written() {
        for text in [
            "minute",
            "hour",
            "day",
            "week",
            "month",
            "total",
            "rolling-90s",
            "rolling-5m",
            "rolling-24h",
        ] {
            let window = Window::parse(text).unwrap();
            assert_eq!(Window::parse(&window.to_string()), Some(window), "{text}");
        }
        assert_eq!(Window::parse("rolling-24h").unwrap().to_string(), "rolling-1d");
        for text in
            ["", "year", "rolling-", "rolling-h", "rolling-0s", "rolling-9999d", "rolling-5é"]
        {
            assert_eq!(Window::parse(text), None, "{text}");
        }
    }
}
