//! The value of one directive, parsed.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode};

use super::directives::{DirectiveError, MAX_DELAY, Rejection, UsageMode};

/// Longest finish reason, chosen: no provider's is near.
const MAX_FINISH_BYTES: usize = 64;

/// One `name=value` of a script.
pub(super) struct Setting<'a> {
    /// The directive's name.
    pub name: &'a str,
    /// `None`: there is no `=`.
    pub value: Option<&'a str>,
}

impl Setting<'_> {
    fn bad(&self, expected: impl Into<String>) -> DirectiveError {
        DirectiveError::BadValue { name: self.name.to_owned(), expected: expected.into() }
    }

    /// A directive that is just there.
    pub fn flag(&self) -> Result<bool, DirectiveError> {
        if self.value.is_none() { Ok(true) } else { Err(self.bad("no value")) }
    }

    /// A number within `range`.
    pub fn number<N>(&self, range: RangeInclusive<N>) -> Result<N, DirectiveError>
    where
        N: std::str::FromStr + PartialOrd + fmt::Display,
    {
        let number = self.value.and_then(|value| value.parse().ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            self.bad(format!("a whole number from {} to {}", range.start(), range.end()))
        })
    }

    /// Milliseconds, up to [`MAX_DELAY`].
    pub fn delay(&self) -> Result<Duration, DirectiveError> {
        self.number(0..=MAX_DELAY.as_secs() * 1_000).map(Duration::from_millis)
    }

    /// Statuses joined by commas, of those that have a body: hyper sends none with 1xx, 204, 205
    /// and 304.
    pub fn statuses(&self) -> Result<Vec<StatusCode>, DirectiveError> {
        let expected = "statuses from 200 to 599, except 204, 205 and 304, joined by commas";
        let parse = |code: &str| {
            let code = code.parse().ok().filter(|code| (200..600).contains(code))?;
            StatusCode::from_u16(code).ok().filter(|_| !matches!(code, 204 | 205 | 304))
        };
        let codes = self.value.unwrap_or_default().split(',').map(parse);
        codes.collect::<Option<_>>().ok_or_else(|| self.bad(expected))
    }

    /// A text that is not empty, decoded.
    pub fn text(&self) -> Result<String, DirectiveError> {
        self.value
            .and_then(percent_decode)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| self.bad("a percent-encoded text"))
    }

    /// A short text.
    pub fn finish_reason(&self) -> Result<String, DirectiveError> {
        let reason = self.text()?;
        let is_short = reason.len() <= MAX_FINISH_BYTES;
        is_short.then_some(reason).ok_or_else(|| self.bad(format!("{MAX_FINISH_BYTES} bytes")))
    }

    /// A text that can be a header.
    pub fn header(&self) -> Result<HeaderValue, DirectiveError> {
        let text = self.text()?;
        HeaderValue::from_str(&text).map_err(|_| self.bad("a text that can be a header"))
    }

    /// The name of a [`UsageMode`].
    pub fn usage(&self) -> Result<UsageMode, DirectiveError> {
        match self.value {
            Some("none") => Ok(UsageMode::None),
            Some("choice") => Ok(UsageMode::Choice),
            Some("every") => Ok(UsageMode::Every),
            _ => Err(self.bad("none, choice or every")),
        }
    }

    /// The name of a [`Rejection`].
    pub fn rejection(&self) -> Result<Rejection, DirectiveError> {
        match self.value {
            Some("context") => Ok(Rejection::Context),
            Some("policy") => Ok(Rejection::Policy),
            _ => Err(self.bad("context or policy")),
        }
    }
}

/// RFC 3986, section 2.1; `None` when a `%` is not followed by two hexadecimal digits or the
/// bytes are not UTF-8.
pub(super) fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let code = digit()? * 16 + digit()?;
        decoded.push(u8::try_from(code).ok()?);
    }
    String::from_utf8(decoded).ok()
}
