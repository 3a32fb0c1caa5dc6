//! What callers send: bodies, ids, parameters, times and names.

use std::{collections::BTreeMap, fmt};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{Uri, request::Parts},
};
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use utoipa::ToSchema;

use super::{Desk, error::AdminError};
use crate::{api::read_body, ledger::window::time_or_date, units::NanoUsd};

/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// U+0000 in JSON, which PostgreSQL stores in no text.
const NUL_IN_JSON: &[u8] = b"\\u0000";
const NUL_MESSAGE: &str = "holds U+0000, which cannot be stored: leave it out";

/// A JSON body without unknown fields.
pub(super) struct Sent<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Desk> for Sent<T> {
    type Rejection = AdminError;

    async fn from_request(request: Request<Body>, desk: &Desk) -> Result<Self, AdminError> {
        let (parts, body) = request.into_parts();
        let bytes = read_body(&desk.gateway(), &parts.headers, body).await?;
        if bytes.windows(NUL_IN_JSON.len()).any(|window| window == NUL_IN_JSON) {
            return Err(AdminError::Value { param: "body", message: NUL_MESSAGE.to_owned() });
        }
        parse(&bytes).map(Self)
    }
}

/// Reads JSON; an error names the field by its path.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, AdminError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        // `?` stands for a field whose name was not read to its end.
        let path = error.path().to_string();
        let path = path.strip_suffix(".?").unwrap_or(if path == "?" { "." } else { &path });
        let message = error.inner().to_string();
        // serde reports a missing field at the object that lacks it.
        let missing = message.strip_prefix("missing field `").and_then(|m| m.split('`').next());
        let param = match (path, missing) {
            (".", None) => None,
            (".", Some(field)) => Some(field.to_owned()),
            (path, None) => Some(path.to_owned()),
            (path, Some(field)) => Some(format!("{path}.{field}")),
        };
        let message = match &param {
            Some(param) => format!("`{param}`: {message}"),
            None => format!("the body: {message}"),
        };
        AdminError::Shape { param, message }
    });
    let read = read?;
    let rest = |error| AdminError::Shape { param: None, message: format!("the body: {error}") };
    reader.end().map_err(rest)?;
    Ok(read)
}

/// A field that was sent, for bodies in which absence means "as it is": with `#[serde(default)]`.
pub(super) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// The id in the path.
pub(super) struct Id(pub String);

impl FromRequestParts<Desk> for Id {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, AdminError> {
        in_path(parts, desk).await.map(Self)
    }
}

/// The variable parts of the path.
pub(super) async fn in_path<T>(parts: &mut Parts, desk: &Desk) -> Result<T, AdminError>
where
    T: DeserializeOwned + Send,
{
    if parts.uri.path().contains("%00") {
        return Err(AdminError::Value { param: "path", message: NUL_MESSAGE.to_owned() });
    }
    match Path::<T>::from_request_parts(parts, desk).await {
        Ok(Path(found)) => Ok(found),
        Err(error) => {
            let message = format!("the path: {}", error.body_text());
            Err(AdminError::Shape { param: None, message })
        }
    }
}

/// The parameters of a question, each to be taken once; those that nobody takes are unknown.
pub(super) struct Parameters {
    given: BTreeMap<String, Vec<String>>,
    known: Vec<&'static str>,
    has_nul: bool,
}

impl Parameters {
    pub(super) fn of(uri: &Uri) -> Self {
        let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let query = uri.query().unwrap_or_default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            given.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        Self { given, known: Vec::new(), has_nul: query.contains("%00") }
    }

    /// Every value of a parameter.
    pub(super) fn all(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        self.given.remove(name).unwrap_or_default()
    }

    /// The value of a parameter that may be given once.
    pub(super) fn one(&mut self, name: &'static str) -> Result<Option<String>, AdminError> {
        let mut values = self.all(name);
        match (values.pop(), values.is_empty()) {
            (Some(_), false) => Err(wrong_shape(name, "is given more than once")),
            (value, _) => Ok(value),
        }
    }

    /// A whole number within a range.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<i64>, AdminError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let (least, most) = (range.start(), range.end());
                let what = format!("`{text}` is not a whole number from {least} to {most}");
                Err(wrong_shape(name, &what))
            }
        }
    }

    /// A moment, in milliseconds since 1970.
    pub(super) fn moment(&mut self, name: &'static str) -> Result<Option<i64>, AdminError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        // A `+` that was not escaped has become a space.
        let escaped = text.replace(' ', "+");
        match time_or_date(&escaped, &TimeZone::UTC) {
            Some(time) => Ok(Some(time.as_millisecond())),
            None => Err(AdminError::Value {
                param: name,
                message: format!(
                    "`{text}` is not a time: write 2026-01-31T12:00:00Z, or 2026-01-31 for \
                     midnight in UTC"
                ),
            }),
        }
    }

    /// Refuses what nobody took. To be called before the values are used.
    pub(super) fn finish(self) -> Result<(), AdminError> {
        if self.has_nul {
            return Err(AdminError::Value { param: "query", message: NUL_MESSAGE.to_owned() });
        }
        let Some((name, _)) = self.given.first_key_value() else { return Ok(()) };
        let known = match self.known.as_slice() {
            [] => "there are none here".to_owned(),
            known => format!("known here: {}", known.join(", ")),
        };
        Err(wrong_shape(name, &format!("is not a parameter; {known}")))
    }
}

fn wrong_shape(name: &str, what: &str) -> AdminError {
    AdminError::Shape { param: Some(name.to_owned()), message: format!("`{name}`: {what}") }
}

/// That a name can be shown and stored.
pub(super) fn checked_name(name: String) -> Result<String, AdminError> {
    let is_control = |c: char| c < ' ' || c == '\u{7f}';
    let length = name.chars().count();
    if !(1..=MAX_NAME).contains(&length) || name.chars().any(is_control) {
        let message = format!("write 1 to {MAX_NAME} characters without control characters");
        return Err(AdminError::Value { param: "name", message });
    }
    Ok(name)
}

/// Dollars as text, like `25.00`.
pub(super) fn dollars(param: &'static str, text: &str) -> Result<NanoUsd, AdminError> {
    let amount = NanoUsd::parse(text).filter(|amount| amount.0 >= 0 && !text.ends_with('.'));
    amount.ok_or_else(|| AdminError::Value {
        param,
        message: format!(
            "`{text}` is not an amount: write dollars with at most nine decimals, like \"25.00\""
        ),
    })
}

/// A whole number, also when it is written `3.0`, which JSON Schema calls an integer (2020-12,
/// section 4.2.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Whole(pub i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let whole = number.as_i64().or_else(|| {
            // 2⁶³ is the first double beyond the integers.
            let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
            (float.abs() < i64::MAX as f64).then_some(float as i64)
        });
        whole.map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!("`{number}` is not a whole number in range"))
        })
    }
}

/// A moment: RFC 3339 outside, milliseconds since 1970 inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00Z")]
pub(super) struct Moment(pub i64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Beyond the calendar's ends (years ±9999) its end.
        let end = if self.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Timestamp::from_millisecond(self.0).unwrap_or(end).fmt(f)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse::<Timestamp>() {
            Ok(time) => Ok(Self(time.as_millisecond())),
            Err(_) => Err(serde::de::Error::custom(format!(
                "`{text}` is not a time: write RFC 3339, like 2026-01-31T12:00:00Z"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "read for its errors")]
        inner: Inner,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "read for its errors")]
        at: Moment,
    }

    #[test]
    fn an_error_in_a_body_names_its_field() {
        for (body, param, said) in [
            ("{", None, "the body: EOF"),
            ("[]", None, "the body: invalid"),
            ("{}", Some("inner"), "`inner`: missing field `inner`"),
            (r#"{"inner":{}}"#, Some("inner.at"), "`inner.at`: missing field `at`"),
            (r#"{"inner":{"at":1}}"#, Some("inner.at"), "invalid type: integer"),
            (r#"{"inner":{"at":"noon"}}"#, Some("inner.at"), "`noon` is not a time"),
            (r#"{"inner":{"att":1}}"#, Some("inner.att"), "unknown field `att`, expected `at`"),
            (r#"{"inner":{"at":"2026-01-31T12:00:00Z"}} x"#, None, "trailing characters"),
        ] {
            let Err(AdminError::Shape { param: found, message }) = parse::<Outer>(body.as_bytes())
            else {
                panic!("{body} is read");
            };
            assert_eq!(found.as_deref(), param, "{body}: {message}");
            assert!(message.contains(said), "{body}: {message}");
        }
    }

    #[test]
    fn parameters_are_known_single_and_times() {
        let of = |query: &str| Parameters::of(&format!("/x?{query}").parse().unwrap());
        assert_eq!(of("from=2026-01-31").moment("from").unwrap(), Some(1_769_817_600_000));
        let plus = of("from=2026-01-31T01:00:00+01:00").moment("from").unwrap();
        assert_eq!(plus, Some(1_769_817_600_000));
        assert!(of("from=soon").moment("from").is_err());
        assert!(of("limit=1&limit=2").one("limit").is_err());
        assert!(of("limit=0").number("limit", 1..=9).is_err());
        let mut parameters = of("limits=1");
        parameters.number("limit", 1..=9).unwrap();
        let error = parameters.finish().unwrap_err().to_string();
        assert_eq!(error, "`limits`: is not a parameter; known here: limit");
    }

    #[test]
    fn a_whole_number_may_have_a_decimal_point() {
        for (text, expected) in [
            ("3", Some(3)),
            ("3.0", Some(3)),
            ("9223372036854775807", Some(i64::MAX)),
            ("3.5", None),
            ("1e300", None),
            ("9223372036854775808", None),
            ("\"3\"", None),
        ] {
            assert_eq!(serde_json::from_str::<Whole>(text).ok(), expected.map(Whole), "{text}");
        }
    }

    #[test]
    fn amounts_are_dollars_with_at_most_nine_decimals() {
        assert_eq!(dollars("amount_usd", "25.5").unwrap(), NanoUsd(25_500_000_000));
        for wrong in ["", "-1", "1.", ".5", "1.0000000001", "1e3", "$1", "10000000000"] {
            assert!(dollars("amount_usd", wrong).is_err(), "{wrong}");
        }
    }
}
