//! The fields of a request, for the dialects that are not OpenAI's. A [`Reader`] knows the path
//! of its object, so that every dialect can name the field in its own sentence.

use serde_json::{Map, Value};

/// One object of a request.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    object: &'a Map<String, Value>,
    /// `messages[2].content[0]`; empty for the request itself.
    path: String,
    /// Names may be written `like_this` for `likeThis`: protobuf's JSON takes both.
    takes_snake_case: bool,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    /// Of the field; may be empty.
    pub path: String,
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    Missing,
    /// It should be this: "a string", "an object".
    NotA(&'static str),
    /// There is no such field.
    Unknown,
    /// What the provider says in this case.
    Says(String),
}

impl Bad {
    /// A sentence of the provider's about `path`.
    pub fn says(path: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { path: path.into(), problem: Problem::Says(sentence.into()) }
    }

    /// The path with numbers after dots: `messages.2.content.0`.
    pub fn dotted_path(&self) -> String {
        self.path.replace('[', ".").replace(']', "")
    }
}

impl<'a> Reader<'a> {
    /// The request itself.
    pub fn new(object: &'a Map<String, Value>) -> Self {
        Self { object, path: String::new(), takes_snake_case: false }
    }

    /// The request of an API that is protobuf underneath.
    pub fn of_protobuf(object: &'a Map<String, Value>) -> Self {
        Self { takes_snake_case: true, ..Self::new(object) }
    }

    /// The object `value` at `path`, in the same request.
    pub fn at(&self, path: String, value: &'a Value) -> Result<Self, Bad> {
        let takes_snake_case = self.takes_snake_case;
        match value {
            Value::Object(object) => Ok(Self { object, path, takes_snake_case }),
            _ => Err(Bad { path, problem: Problem::NotA("an object") }),
        }
    }

    /// Where this object lies.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where the field `name` lies.
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Refuses fields that are not among `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), Bad> {
        let is_known = |name: &str| {
            known.contains(&name)
                || (self.takes_snake_case && known.iter().any(|known| snake_case(known) == name))
        };
        match self.object.keys().find(|name| !is_known(name)) {
            Some(name) => Err(Bad { path: self.path_of(name), problem: Problem::Unknown }),
            None => Ok(()),
        }
    }

    /// The first of `names` that is there: how unions without a `type` are told apart.
    pub fn which<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|name| self.get(name).is_some())
    }

    /// The field, if it is there and not null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        let in_snake_case = || self.object.get(&snake_case(name)).filter(|_| self.takes_snake_case);
        self.object.get(name).or_else(in_snake_case).filter(|value| !value.is_null())
    }

    /// The field, which must be there.
    pub fn required(&self, name: &str) -> Result<&'a Value, Bad> {
        let missing = || Bad { path: self.path_of(name), problem: Problem::Missing };
        self.get(name).ok_or_else(missing)
    }

    /// A string that may be absent.
    pub fn string(&self, name: &str) -> Result<Option<&'a str>, Bad> {
        self.typed(name, "a string", Value::as_str)
    }

    /// A string that must be there.
    pub fn required_string(&self, name: &str) -> Result<&'a str, Bad> {
        self.required(name)?;
        Ok(self.string(name)?.unwrap_or_default())
    }

    /// A boolean, false when absent.
    pub fn boolean(&self, name: &str) -> Result<bool, Bad> {
        Ok(self.typed(name, "a boolean", Value::as_bool)?.unwrap_or(false))
    }

    /// A whole number that may be absent. 1.0 is one too: protobuf's JSON takes it so.
    pub fn unsigned(&self, name: &str) -> Result<Option<u64>, Bad> {
        self.typed(name, "an integer", |value| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole and not negative, and a cast saturates"
            )]
            let whole = |number: f64| number as u64;
            let float = value.as_f64().filter(|number| *number >= 0.0 && number.fract() == 0.0);
            value.as_u64().or(float.map(whole))
        })
    }

    /// A number within bounds.
    pub fn number(&self, name: &str, min: f64, max: f64) -> Result<Option<f64>, Bad> {
        let number = self.typed(name, "a number", Value::as_f64)?;
        match number {
            Some(number) if number < min || number > max => {
                let sentence = format!("must be between {min} and {max}, but is {number}");
                Err(Bad::says(self.path_of(name), sentence))
            }
            _ => Ok(number),
        }
    }

    /// Strings that may be absent.
    pub fn strings(&self, name: &str) -> Result<Vec<String>, Bad> {
        let Some(items) = self.typed(name, "an array", Value::as_array)? else {
            return Ok(Vec::new());
        };
        let not_all =
            Bad { path: self.path_of(name), problem: Problem::NotA("an array of strings") };
        let items = items.iter().map(|item| item.as_str().map(str::to_owned));
        items.collect::<Option<_>>().ok_or(not_all)
    }

    /// An object that may be absent.
    pub fn object(&self, name: &str) -> Result<Option<Reader<'a>>, Bad> {
        self.get(name).map(|value| self.at(self.path_of(name), value)).transpose()
    }

    /// An object that must be there.
    pub fn required_object(&self, name: &str) -> Result<Reader<'a>, Bad> {
        self.at(self.path_of(name), self.required(name)?)
    }

    /// The objects of an array; none when it is absent.
    pub fn objects(&self, name: &str) -> Result<Vec<Reader<'a>>, Bad> {
        let path = self.path_of(name);
        let items = self.typed(name, "an array", Value::as_array)?;
        let items = items.map_or(&[][..], Vec::as_slice).iter().enumerate();
        items.map(|(index, item)| self.at(format!("{path}[{index}]"), item)).collect()
    }

    /// The objects of an array that has at least one.
    pub fn some_objects(&self, name: &str) -> Result<Vec<Reader<'a>>, Bad> {
        self.required(name)?;
        let objects = self.objects(name)?;
        if objects.is_empty() {
            return Err(Bad::says(self.path_of(name), "at least one is required"));
        }
        Ok(objects)
    }

    fn typed<T>(
        &self,
        name: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Bad> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let wrong = || Bad { path: self.path_of(name), problem: Problem::NotA(expected) };
        read(value).map(Some).ok_or_else(wrong)
    }
}

/// `topK` → `top_k`
fn snake_case(name: &str) -> String {
    let letters = name.chars().flat_map(|letter| {
        let underscore = letter.is_ascii_uppercase().then_some('_');
        underscore.into_iter().chain([letter.to_ascii_lowercase()])
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn protobuf_fields_have_two_names() {
        let request = json!({"top_k": 3, "thinkingConfig": {"include_thoughts": true}});
        let request = request.as_object().unwrap();
        let protobuf = Reader::of_protobuf(request);
        protobuf.only(&["topK", "thinkingConfig"]).unwrap();
        assert_eq!(protobuf.unsigned("topK"), Ok(Some(3)));
        let inner = protobuf.required_object("thinkingConfig").unwrap();
        assert_eq!(inner.boolean("includeThoughts"), Ok(true));
        let other = Reader::new(request);
        assert_eq!(other.unsigned("topK"), Ok(None));
        let bad = other.only(&["topK", "thinkingConfig"]).unwrap_err();
        assert_eq!((bad.path.as_str(), bad.problem), ("top_k", Problem::Unknown));
    }

    #[test]
    fn an_error_names_its_field() {
        let request = json!({"messages": [{"content": [{"text": 1}]}]});
        let reader = Reader::new(request.as_object().unwrap());
        let message = reader.some_objects("messages").unwrap().remove(0);
        let part = message.objects("content").unwrap().remove(0);
        let bad = part.required_string("text").unwrap_err();
        assert_eq!(bad.path, "messages[0].content[0].text");
        assert_eq!(bad.dotted_path(), "messages.0.content.0.text");
        assert_eq!(bad.problem, Problem::NotA("a string"));
    }
}
