//! The fields of a request, read with the checks and the errors of OpenAI's API.
//!
//! A [`Fields`] is one object of the request and knows its path, so that an error can name
//! `messages[2].content` in `param`. A field that is null counts as absent, as it does there.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::ApiError;

/// One object of a request.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    /// Empty for the request itself.
    path: String,
}

impl<'a> Fields<'a> {
    /// The request itself.
    pub fn new(object: &'a Map<String, Value>) -> Self {
        Self { object, path: String::new() }
    }

    /// The object `value`, which lies at `path`.
    pub fn at(path: String, value: &'a Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(object) => Ok(Self { object, path }),
            other => Err(ApiError::wrong_type(&path, "an object", type_of(other))),
        }
    }

    /// The path of the field `name`, as errors write it.
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The field, if it is there and not null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// The field, which must be there.
    pub fn required(&self, name: &str) -> Result<&'a Value, ApiError> {
        self.get(name).ok_or_else(|| ApiError::missing(&self.path_of(name)))
    }

    /// A string that may be absent.
    pub fn string(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.typed(name, "a string", Value::as_str)
    }

    /// A string that must be there.
    pub fn required_string(&self, name: &str) -> Result<&'a str, ApiError> {
        self.string(name)?.ok_or_else(|| ApiError::missing(&self.path_of(name)))
    }

    /// A string that is one of `supported`.
    pub fn one_of(&self, name: &str, supported: &[&str]) -> Result<Option<&'a str>, ApiError> {
        let value = self.string(name)?;
        match value {
            Some(value) if !supported.contains(&value) => {
                Err(ApiError::unsupported(&self.path_of(name), value, supported))
            }
            _ => Ok(value),
        }
    }

    /// A boolean, false when absent.
    pub fn boolean(&self, name: &str) -> Result<bool, ApiError> {
        Ok(self.typed(name, "a boolean", Value::as_bool)?.unwrap_or(false))
    }

    /// A whole number within `range`.
    pub fn integer(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.typed(name, "an integer", Value::as_i64)? else { return Ok(None) };
        let path = self.path_of(name);
        let (word, relation, code, bound) = if value < *range.start() {
            ("below minimum", ">=", "integer_below_min_value", range.start())
        } else if value > *range.end() {
            ("above maximum", "<=", "integer_above_max_value", range.end())
        } else {
            return Ok(Some(value));
        };
        let message = format!(
            "Invalid '{path}': integer {word} value. Expected a value {relation} {bound}, but got {value} instead."
        );
        Err(ApiError::invalid(&path, code, message))
    }

    /// A number within `range`.
    pub fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.typed(name, "a decimal", Value::as_f64)? else { return Ok(None) };
        let path = self.path_of(name);
        let (word, relation, code, bound) = if value < *range.start() {
            ("below minimum", ">=", "decimal_below_min_value", range.start())
        } else if value > *range.end() {
            ("above maximum", "<=", "decimal_above_max_value", range.end())
        } else {
            return Ok(Some(value));
        };
        let message = format!(
            "Invalid '{path}': decimal {word} value. Expected a value {relation} {bound}, but got {value} instead."
        );
        Err(ApiError::invalid(&path, code, message))
    }

    /// An object that may be absent.
    pub fn object(&self, name: &str) -> Result<Option<Fields<'a>>, ApiError> {
        self.get(name).map(|value| Fields::at(self.path_of(name), value)).transpose()
    }

    /// An object that must be there.
    pub fn required_object(&self, name: &str) -> Result<Fields<'a>, ApiError> {
        Fields::at(self.path_of(name), self.required(name)?)
    }

    /// The objects of an array, each with its path; none when the field is absent.
    pub fn objects(&self, name: &str) -> Result<Vec<Fields<'a>>, ApiError> {
        let path = self.path_of(name);
        let items = self.typed(name, "an array of objects", Value::as_array)?;
        let items = items.map_or(&[][..], Vec::as_slice).iter().enumerate();
        items.map(|(index, item)| Fields::at(format!("{path}[{index}]"), item)).collect()
    }

    /// The same for an array of at most `max` objects.
    pub fn objects_up_to(&self, max: usize, name: &str) -> Result<Vec<Fields<'a>>, ApiError> {
        let items = self.get(name).and_then(Value::as_array).map_or(0, Vec::len);
        check_length(&self.path_of(name), items, max)?;
        self.objects(name)
    }

    fn typed<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let wrong = || ApiError::wrong_type(&self.path_of(name), expected, type_of(value));
        read(value).map(Some).ok_or_else(wrong)
    }
}

/// The type of a value, with its article, as OpenAI's errors name it.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Refuses an array of more than `max` items.
pub(super) fn check_length(path: &str, items: usize, max: usize) -> Result<(), ApiError> {
    if items <= max {
        return Ok(());
    }
    let message = format!(
        "Invalid '{path}': array too long. Expected an array with maximum length {max}, but got an array with length {items} instead."
    );
    Err(ApiError::invalid(path, "array_above_max_length", message))
}

/// An array with nothing in it, where something is needed.
pub(super) fn empty_array(path: &str) -> ApiError {
    let message = format!(
        "Invalid '{path}': empty array. Expected an array with minimum length 1, but got an empty array instead."
    );
    ApiError::invalid(path, "empty_array", message)
}
