//! A JSON object whose values stay as the bytes that arrived.
//!
//! A gateway reads a handful of fields and must not touch the others: numbers keep their
//! digits, objects their key order, unknown fields their place. [`RawObject`] splits the top
//! level of an object and leaves everything below it alone.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::{RawValue, to_raw_value};

/// The top level of a JSON object, in order, with unparsed values.
#[derive(Debug, Clone, Default)]
pub struct RawObject {
    fields: Vec<(String, Box<RawValue>)>,
}

impl RawObject {
    /// Splits an object. An object that names a field twice is refused: two readers of the same
    /// bytes could otherwise see two different requests.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        read(bytes)
    }

    /// The value of a field as it arrived, or `None` when it is absent.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| &**value)
    }

    /// Appends a field of our own making; the caller sees to it that it is new.
    pub fn put<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        // What is written here has string keys only; were it not so, the field would read null.
        self.fields.push((name.to_owned(), to_raw_value(value).unwrap_or_default()));
    }

    /// Appends a field that has a value.
    pub fn put_some<T: Serialize>(&mut self, name: &str, value: &Option<T>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// Appends a list that is not empty.
    pub fn put_list<T: Serialize>(&mut self, name: &str, values: &[T]) {
        if !values.is_empty() {
            self.put(name, values);
        }
    }

    /// Appends an object that is not empty.
    pub fn put_object(&mut self, name: &str, value: &Self) {
        if !value.is_empty() {
            self.put(name, value);
        }
    }

    /// Whether it has no fields.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Takes a field out.
    pub fn take(&mut self, name: &str) -> Option<Json> {
        let at = self.fields.iter().position(|(field, _)| field == name)?;
        Some(Json(self.fields.remove(at).1))
    }

    /// What is left, in order.
    pub fn into_fields(self) -> Vec<(String, Json)> {
        self.fields.into_iter().map(|(name, value)| (name, Json(value))).collect()
    }

    /// Replaces a field in place, or appends it.
    pub fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.fields.iter_mut().find(|(field, _)| field == name) {
            Some((_, old)) => *old = value,
            None => self.fields.push((name.to_owned(), value)),
        }
    }

    /// Replaces a field by a string value, or appends it.
    pub fn set_str(&mut self, name: &str, value: &str) {
        self.set(name, quoted(value));
    }

    /// Removes a field; an absent one is no error.
    pub fn remove(&mut self, name: &str) {
        self.fields.retain(|(field, _)| field != name);
    }

    /// The object as JSON: the values byte for byte, no white space between the fields.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length: usize = self.fields.iter().map(|(k, v)| k.len() + v.get().len() + 8).sum();
        let mut out = Vec::with_capacity(length + 2);
        out.push(b'{');
        for (index, (name, value)) in self.fields.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            // Writing text into memory cannot fail.
            let _ = serde_json::to_writer(&mut out, name);
            out.push(b':');
            out.extend_from_slice(value.get().as_bytes());
        }
        out.push(b'}');
        out
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A [`RawObject`] written down: `object! { "type": "text", "text": text }`. Values are anything
/// that serialises; raw JSON among them keeps its bytes.
macro_rules! object {
    ($($name:literal: $value:expr),* $(,)?) => {{
        #[allow(unused_mut, reason = "an object without fields")]
        let mut object = $crate::protocol::json::RawObject::default();
        $(object.put($name, &$value);)*
        object
    }};
}
pub(crate) use object;

/// A JSON value that keeps the bytes it arrived in; two are equal when they mean the same.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// A value of our own making.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        Self(to_raw_value(value).unwrap_or_default())
    }

    /// Text that is one JSON value, white space around it aside.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Text that is one JSON object.
    pub fn parse_object(text: &str) -> Option<Self> {
        Self::parse(text).filter(Self::is_object)
    }

    /// The bytes as they arrived.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.text() == "null"
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.text().starts_with('{')
    }

    /// The string, when it is one.
    pub fn as_string(&self) -> Option<String> {
        self.read()
    }

    /// The value as a type, when it fits.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.text()).ok()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        let value = |json: &Self| serde_json::from_str::<serde_json::Value>(json.text()).ok();
        self.text() == other.text() || value(self).is_some_and(|mine| Some(mine) == value(other))
    }
}

/// Reads a value. Bytes that are text as a whole are checked at once, which is several times
/// cheaper than each string for itself; others are read as far as they go.
pub fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, serde_json::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(bytes),
    }
}

/// A string as a JSON value.
fn quoted(text: &str) -> Box<RawValue> {
    // Text is always a value.
    to_raw_value(text).unwrap_or_default()
}

/// A value of our own making as raw JSON.
pub fn raw(value: &serde_json::Value) -> Box<RawValue> {
    // A `Value` has string keys and finite numbers only, so writing it cannot fail.
    to_raw_value(value).unwrap_or_default()
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = RawObject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
        let mut fields: Vec<(String, Box<RawValue>)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
            if fields.len() >= MAX_FIELDS {
                return Err(serde::de::Error::custom(format_args!(
                    "more than {MAX_FIELDS} fields"
                )));
            }
            if fields.iter().any(|(field, _)| *field == name) {
                return Err(serde::de::Error::custom(format_args!(
                    "the field `{name}` is given twice"
                )));
            }
            fields.push((name, value));
        }
        Ok(RawObject { fields })
    }
}

/// Top-level fields accepted (chosen: the largest public request has about 40; the bound keeps
/// the search for duplicates cheap).
const MAX_FIELDS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_bytes_when_one_field_changes() {
        let body = br#"{"model":"auto", "seed": 1.50, "big": 123456789012345678901234567890, "x": {"b":1, "a":[ 2 ]}}"#;
        let mut object = RawObject::parse(body).unwrap();
        object.set_str("model", "small \"v1\"");
        assert_eq!(
            String::from_utf8(object.to_bytes()).unwrap(),
            r#"{"model":"small \"v1\"","seed":1.50,"big":123456789012345678901234567890,"x":{"b":1, "a":[ 2 ]}}"#
        );
    }

    #[test]
    fn a_field_given_twice_is_refused_by_name() {
        let error = RawObject::parse(br#"{"model":"a","model":"b"}"#).unwrap_err();
        assert!(error.to_string().contains("`model` is given twice"), "{error}");
    }

    #[test]
    fn removing_and_appending_fields() {
        let mut object = RawObject::parse(br#"{"a":1,"b":2}"#).unwrap();
        object.remove("a");
        object.set("c", raw(&serde_json::json!({"d": true})));
        assert_eq!(object.to_bytes(), br#"{"b":2,"c":{"d":true}}"#);
        assert!(object.get("a").is_none());
    }
}
