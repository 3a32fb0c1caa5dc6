//! A statement under construction: text from the program, values from anywhere.
//!
//! Text is only taken as `&'static str`, so nothing that a caller says can become SQL. Values have
//! one of three types, whether they are there or not: PostgreSQL keeps a prepared statement's
//! types, and sqlx's `Any` driver sends a missing float with another type than a present one.
//! Floats therefore travel as text, inside a `CAST`.

use sqlx::{Any, AssertSqlSafe, any::AnyArguments, query::Query};

use super::Backend;

/// A value for a placeholder.
pub(super) enum Value {
    Integer(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Integer(Some(i64::from(value)))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(storable(value)))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::from(value.as_str())
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(storable))
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(Some(value.to_vec()))
    }
}

impl From<Option<&[u8]>> for Value {
    fn from(value: Option<&[u8]>) -> Self {
        Self::Bytes(value.map(<[u8]>::to_vec))
    }
}

/// PostgreSQL's text cannot hold U+0000.
pub(super) fn storable(text: &str) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }
}

/// See the module.
pub(super) struct Statement {
    text: String,
    values: Vec<Value>,
    /// Whether placeholders are `?` instead of `$1`.
    is_anonymous: bool,
}

/// Begins a statement.
pub(super) fn sql(text: &'static str) -> Statement {
    Statement { text: text.to_owned(), values: Vec::new(), is_anonymous: false }
}

impl Statement {
    /// For statements of many values, each with [`Self::bind`]: SQLite looks numbered placeholders
    /// up in a list, so a thousand of them cost a million steps each time.
    pub(super) fn of_many(self, backend: Backend) -> Self {
        Self { is_anonymous: backend == Backend::Sqlite, ..self }
    }

    /// Goes on.
    pub(super) fn text(mut self, text: &'static str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Gives the value of the next placeholder that the text already names.
    pub(super) fn with(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Writes a placeholder, and its value.
    pub(super) fn bind(self, value: impl Into<Value>) -> Self {
        let mut statement = self.with(value);
        if statement.is_anonymous {
            statement.text.push('?');
        } else {
            statement.text.push('$');
            statement.text.push_str(&statement.values.len().to_string());
        }
        statement
    }

    /// Writes a comma, a placeholder, and its value.
    pub(super) fn then(self, value: impl Into<Value>) -> Self {
        self.text(", ").bind(value)
    }

    /// Writes the values as `($1, $2)`.
    pub(super) fn bind_all<V: Into<Value>>(self, values: impl IntoIterator<Item = V>) -> Self {
        let mut statement = self.text("(");
        for (at, value) in values.into_iter().enumerate() {
            statement = statement.text(if at == 0 { "" } else { ", " }).bind(value);
        }
        statement.text(")")
    }

    /// Ready to run.
    pub(super) fn query(self) -> Query<'static, Any, AnyArguments> {
        let query = sqlx::query(AssertSqlSafe(self.text));
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Integer(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
        })
    }
}
