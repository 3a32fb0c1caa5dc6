//! Reads TOML tables and collects every problem with its position.
//!
//! serde stops at the first error; an operator wants all of them at once, each with line, column
//! and a way out. [`Section`] is one table being read: each getter notes that its key is known,
//! checks type and range, and files a [`Problem`] instead of failing; [`Section::finish`] files
//! one for every key that nobody asked for.

use std::{cell::RefCell, ops::Range, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::units::NanoUsd;

/// Something wrong with the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Byte range in the file.
    pub span: Range<usize>,
    /// The setting, as a dotted path; empty for a syntax error.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub suggestion: Option<String>,
    /// A warning does not keep the configuration from being used.
    pub warning: bool,
}

/// Collects problems while a file is read.
#[derive(Debug, Default)]
pub struct Report {
    problems: RefCell<Vec<Problem>>,
}

impl Report {
    /// Files an error.
    pub fn error(
        &self,
        span: Range<usize>,
        path: &str,
        message: String,
        suggestion: Option<String>,
    ) {
        self.file(Problem { span, path: path.to_owned(), message, suggestion, warning: false });
    }

    /// Files a warning.
    pub fn warn(
        &self,
        span: Range<usize>,
        path: &str,
        message: String,
        suggestion: Option<String>,
    ) {
        self.file(Problem { span, path: path.to_owned(), message, suggestion, warning: true });
    }

    fn file(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// All problems in the order of the file.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.span.start);
        problems
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its byte range in the file.
    pub span: Range<usize>,
}

/// One table being read.
pub struct Section<'a> {
    path: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    known: RefCell<Vec<&'static str>>,
    report: &'a Report,
}

impl<'a> Section<'a> {
    /// Starts on a table; `path` is its dotted name, empty for the root.
    pub fn new(
        path: String,
        span: Range<usize>,
        table: &'a DeTable<'a>,
        report: &'a Report,
    ) -> Self {
        Self { path, span, table, known: RefCell::default(), report }
    }

    /// The table's position.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The dotted path of a key in this table.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Files an error about a key of this table.
    pub fn error(
        &self,
        span: Range<usize>,
        key: &str,
        message: String,
        suggestion: Option<String>,
    ) {
        self.report.error(span, &self.path_of(key), message, suggestion);
    }

    /// Files a warning about a key of this table.
    pub fn warn(&self, span: Range<usize>, key: &str, message: String, suggestion: Option<String>) {
        self.report.warn(span, &self.path_of(key), message, suggestion);
    }

    fn value(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.borrow_mut().push(key);
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        let found = value.get_ref().type_str();
        self.error(value.span(), key, format!("expected {expected}, found {found}"), None);
    }

    /// A string.
    pub fn str(&self, key: &'static str) -> Option<Located<String>> {
        let value = self.value(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(Located { value: text.to_owned(), span: value.span() }),
            None => {
                self.wrong_type(key, value, "a string");
                None
            }
        }
    }

    /// A string that must be there; its absence is an error with `suggestion`.
    pub fn required_str(&self, key: &'static str, suggestion: &str) -> Option<Located<String>> {
        if self.value(key).is_none() {
            self.error(self.span(), key, "is missing".to_owned(), Some(suggestion.to_owned()));
            return None;
        }
        self.str(key)
    }

    /// One of a fixed set of words.
    pub fn word(&self, key: &'static str, words: &[&str]) -> Option<Located<String>> {
        let found = self.str(key)?;
        if words.contains(&found.value.as_str()) {
            return Some(found);
        }
        let suggestion = did_you_mean(&found.value, words.iter().copied())
            .unwrap_or_else(|| format!("use one of: {}", words.join(", ")));
        self.error(found.span, key, format!("`{}` is not known", found.value), Some(suggestion));
        None
    }

    /// `true` or `false`.
    pub fn bool(&self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong_type(key, value, "true or false");
        }
        found
    }

    /// A whole number within `range`.
    pub fn integer(&self, key: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = self.value(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, "a whole number");
            return None;
        };
        let digits = integer.as_str().replace('_', "");
        match u64::from_str_radix(&digits, integer.radix()) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let (low, high) = (range.start(), range.end());
                let message = format!("`{}` is out of range", integer.as_str());
                let suggestion = format!("use a number from {low} to {high}");
                self.error(value.span(), key, message, Some(suggestion));
                None
            }
        }
    }

    /// A duration in milliseconds, at least 1.
    pub fn milliseconds(&self, key: &'static str, max: u64) -> Option<Duration> {
        self.integer(key, 1..=max).map(Duration::from_millis)
    }

    /// A number, written with or without a decimal point, within `range`.
    pub fn number(
        &self,
        key: &'static str,
        range: std::ops::RangeInclusive<f64>,
    ) -> Option<Located<f64>> {
        let value = self.value(key)?;
        let text = match value.get_ref() {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            _ => {
                self.wrong_type(key, value, "a number");
                return None;
            }
        };
        match text.replace('_', "").parse::<f64>() {
            Ok(number) if range.contains(&number) => {
                Some(Located { value: number, span: value.span() })
            }
            _ => {
                let suggestion = format!("use a number from {} to {}", range.start(), range.end());
                self.error(
                    value.span(),
                    key,
                    format!("`{text}` is out of range"),
                    Some(suggestion),
                );
                None
            }
        }
    }

    /// An amount of dollars, at least 0, exact: at most nine decimals.
    pub fn usd(&self, key: &'static str) -> Option<NanoUsd> {
        let value = self.value(key)?;
        let text = match value.get_ref() {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            _ => {
                self.wrong_type(key, value, "an amount of dollars");
                return None;
            }
        };
        let amount = NanoUsd::parse(&text.replace('_', "")).filter(|amount| amount.0 >= 0);
        if amount.is_none() {
            let message = format!("`{text}` is not an amount of dollars");
            let suggestion = "use a number from 0 with at most nine decimals".to_owned();
            self.error(value.span(), key, message, Some(suggestion));
        }
        amount
    }

    /// A list of strings.
    pub fn strings(&self, key: &'static str) -> Option<Vec<Located<String>>> {
        let value = self.value(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of strings");
            return None;
        };
        let mut strings = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(text) => {
                    strings.push(Located { value: text.to_owned(), span: item.span() });
                }
                None => self.wrong_type(key, item, "a string"),
            }
        }
        Some(strings)
    }

    /// A list of whole numbers within a range.
    pub fn integers(
        &self,
        key: &'static str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<Vec<u64>> {
        let value = self.value(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of whole numbers");
            return None;
        };
        let mut numbers = Vec::new();
        for item in array.iter() {
            let number = item
                .get_ref()
                .as_integer()
                .and_then(|text| u64::from_str_radix(text.as_str(), text.radix()).ok());
            match number.filter(|number| range.contains(number)) {
                Some(number) => numbers.push(number),
                None => {
                    let (least, most) = (range.start(), range.end());
                    let expected = format!("a whole number from {least} to {most}");
                    self.wrong_type(key, item, &expected);
                }
            }
        }
        Some(numbers)
    }

    /// A table under this one.
    pub fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let value = self.value(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Section::new(self.path_of(key), value.span(), table, self.report)),
            None => {
                self.wrong_type(key, value, "a table");
                None
            }
        }
    }

    /// The tables under a table, by their names: `[providers.X]`, in the order of the file.
    pub fn named_sections(&self, key: &'static str) -> Vec<(Located<String>, Section<'a>)> {
        let Some(parent) = self.section(key) else { return Vec::new() };
        let mut sections = Vec::new();
        for (name, value) in parent.table.iter() {
            let name = Located { value: name.get_ref().to_string(), span: name.span() };
            match value.get_ref().as_table() {
                Some(table) => {
                    let path = parent.path_of(&name.value);
                    let section = Section::new(path, value.span(), table, self.report);
                    sections.push((name, section));
                }
                None => parent.wrong_type(&name.value, value, "a table"),
            }
        }
        sections
    }

    /// A list of tables: `[[policies.auto.tiers]]`.
    pub fn list_of_sections(&self, key: &'static str) -> Option<Vec<Section<'a>>> {
        let value = self.value(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of tables");
            return None;
        };
        let mut sections = Vec::new();
        for (index, item) in array.iter().enumerate() {
            match item.get_ref().as_table() {
                Some(table) => {
                    let path = format!("{}[{index}]", self.path_of(key));
                    sections.push(Section::new(path, item.span(), table, self.report));
                }
                None => self.wrong_type(key, item, "a table"),
            }
        }
        Some(sections)
    }

    /// Files an error for every key that no getter asked for. Call it last.
    pub fn finish(self) {
        let known = self.known.borrow();
        for (name, _) in self.table.iter() {
            let key: &str = name.get_ref();
            if known.contains(&key) {
                continue;
            }
            let suggestion = did_you_mean(key, known.iter().copied())
                .unwrap_or_else(|| format!("known settings here: {}", known.join(", ")));
            self.error(name.span(), key, "is not a setting".to_owned(), Some(suggestion));
        }
    }
}

/// "did you mean `x`?" when one of the words is near enough to be a slip.
pub fn did_you_mean<'w>(found: &str, words: impl Iterator<Item = &'w str>) -> Option<String> {
    words
        .map(|word| (strsim::jaro_winkler(found, word), word))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| format!("did you mean `{word}`?"))
}
