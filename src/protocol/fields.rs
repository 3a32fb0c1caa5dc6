//! Reading an object field by field: what has been read is gone, what is left is unknown.
//!
//! A surface's reader takes the fields it understands out of [`Fields`] and then decides about
//! the rest: carry it, or name it in a warning. Every error and warning has the path of its
//! field, spelled as OpenAI's errors spell it (`messages[0].content[1].text`).

use serde::de::DeserializeOwned;

use super::{
    json::{self, Json, RawObject},
    neutral::Warnings,
};

/// An object that is being read, and where it stands in the body.
#[derive(Debug)]
pub struct Fields {
    object: RawObject,
    path: String,
}

/// Why a request cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// The path of the field; `None` when the body as a whole is at fault.
    pub param: Option<String>,
    /// A sentence that names the field.
    pub message: String,
}

/// A field that is a string or an array of objects, as content fields are.
#[derive(Debug)]
pub enum StringOrParts {
    /// Absent or null.
    None,
    /// A plain string.
    Text(String),
    /// An array of objects.
    Parts(Vec<Fields>),
}

impl RequestError {
    /// An error in one field.
    pub fn at(path: impl Into<String>, what: impl std::fmt::Display) -> Self {
        let path = path.into();
        Self { message: format!("`{path}` {what}"), param: Some(path) }
    }
}

/// Reads a value. Where that fails it is read once more for the path of what is wrong, which
/// costs too much to keep at hand for every request.
pub(super) fn read_json<T: DeserializeOwned>(
    bytes: &[u8],
) -> Result<T, serde_path_to_error::Error<serde_json::Error>> {
    json::read(bytes).or_else(|_| {
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(bytes))
    })
}

impl Fields {
    /// Reads a whole body.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let object = RawObject::parse(body).map_err(|error| RequestError {
            param: None,
            message: format!("the body is not a JSON object that can be read: {error}"),
        })?;
        Ok(Self { object, path: String::new() })
    }

    /// Reads an object that stands at `path`.
    pub fn of(json: &Json, path: String) -> Result<Self, RequestError> {
        match RawObject::parse(json.text().as_bytes()) {
            Ok(object) => Ok(Self { object, path }),
            Err(_) if !json.is_object() => Err(RequestError::at(path, "must be an object")),
            Err(error) => Err(RequestError::at(path, without_position(&error))),
        }
    }

    /// Where this object stands; empty for the body.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path of one of its fields.
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a field out; `null` counts as absent.
    pub fn take(&mut self, name: &str) -> Option<Json> {
        self.object.take(name).filter(|value| !value.is_null())
    }

    /// Takes a field out as a type.
    pub fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, RequestError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        read_json(value.text().as_bytes()).map(Some).map_err(|error| {
            let inner = error.path().to_string();
            let path = match inner.as_str() {
                "." => self.path_of(name),
                inner if inner.starts_with('[') => format!("{}{inner}", self.path_of(name)),
                inner => format!("{}.{inner}", self.path_of(name)),
            };
            RequestError {
                message: format!("`{path}`: {}", without_position(error.inner())),
                param: Some(path),
            }
        })
    }

    /// Takes out a field that must be there.
    pub fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, RequestError> {
        self.optional(name)?.ok_or_else(|| RequestError::at(self.path_of(name), "is missing"))
    }

    /// Takes out an object.
    pub fn object(&mut self, name: &str) -> Result<Option<Self>, RequestError> {
        self.take(name).map(|value| Self::of(&value, self.path_of(name))).transpose()
    }

    /// Takes out an array of objects; empty when absent.
    pub fn objects(&mut self, name: &str) -> Result<Vec<Self>, RequestError> {
        let values: Vec<Json> = self.optional(name)?.unwrap_or_default();
        let path = self.path_of(name);
        let object = |(at, value): (usize, &Json)| Self::of(value, format!("{path}[{at}]"));
        values.iter().enumerate().map(object).collect()
    }

    /// Takes out a field that may be a string or an array of objects.
    pub fn string_or_parts(&mut self, name: &str) -> Result<StringOrParts, RequestError> {
        let Some(value) = self.object.get(name) else { return Ok(StringOrParts::None) };
        match value.get().as_bytes().first() {
            Some(b'"') => Ok(StringOrParts::Text(self.required(name)?)),
            Some(b'[') => Ok(StringOrParts::Parts(self.objects(name)?)),
            Some(b'n') => Ok(self.take(name).map_or(StringOrParts::None, |_| StringOrParts::None)),
            _ => Err(RequestError::at(self.path_of(name), "must be a string or an array")),
        }
    }

    /// The object as it is now, as JSON.
    pub fn to_json(&self) -> Json {
        Json::of(&self.object)
    }

    /// What has not been read; fields that are `null` say nothing and are left out.
    pub fn rest(self) -> Vec<(String, Json)> {
        self.object.into_fields().into_iter().filter(|(_, value)| !value.is_null()).collect()
    }

    /// Names everything that has not been read as lost.
    pub fn warn_rest(self, warnings: &mut Warnings) {
        let path = self.path.clone();
        for (name, _) in self.rest() {
            let at = if path.is_empty() { name } else { format!("{path}.{name}") };
            warnings.add("field_dropped", at);
        }
    }
}

/// serde_json's message without " at line 1 column 17", which helps nobody in a one-line body.
pub(super) fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ").and_then(|position| message.get(..position)) {
        Some(start) => start.to_owned(),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_gone_and_the_rest_is_named_with_its_path() {
        let mut body =
            Fields::parse(br#"{"a":1,"b":[{"c":"x","d":true,"e":null}],"f":"g"}"#).unwrap();
        assert_eq!(body.required::<u8>("a").unwrap(), 1);
        let mut warnings = Warnings::default();
        for mut object in body.objects("b").unwrap() {
            assert_eq!(object.required::<String>("c").unwrap(), "x");
            object.warn_rest(&mut warnings);
        }
        body.warn_rest(&mut warnings);
        assert_eq!(warnings.to_string(), "field_dropped:b[0].d, field_dropped:f");
    }

    #[test]
    fn errors_name_the_field_at_any_depth() {
        let body = br#"{"a":{"b":[1,"x"]},"c":[{"d":7}],"e":3}"#;
        let mut a = Fields::parse(body).unwrap().object("a").unwrap().unwrap();
        let error = a.optional::<Vec<u8>>("b").unwrap_err();
        assert_eq!(error.param.as_deref(), Some("a.b[1]"), "{error}");
        let mut body = Fields::parse(body).unwrap();
        let error = body.objects("c").unwrap()[0].required::<String>("d").unwrap_err();
        assert_eq!(error.param.as_deref(), Some("c[0].d"), "{error}");
        assert_eq!(body.objects("e").unwrap_err().param.as_deref(), Some("e"));
    }
}
