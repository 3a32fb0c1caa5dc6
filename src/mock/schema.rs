//! The smallest sensible JSON value that a JSON schema accepts.
//!
//! Used for the arguments of tool calls and for structured outputs. Covers what providers accept
//! in strict mode and a little more: `type`, `enum`, `const`, `properties` and `required`, `items`,
//! `prefixItems`, `anyOf`, `oneOf`, `allOf`, `$ref` within the document, lengths, bounds,
//! `multipleOf` and the common string formats. `pattern`, `not` and conditions are not solved.

use serde_json::{Map, Number, Value, json};

/// Values generated for one schema at most: required properties that refer back to their own
/// schema multiply at every level. What lies beyond is null or missing.
const MAX_VALUES: usize = 10_000;
/// Bytes of a name or a constant that count as one more value.
const BYTES_PER_VALUE: usize = 32;
/// Levels of nesting at most; deeper values are null.
const MAX_DEPTH: usize = 24;
/// Items or characters made to satisfy `minItems` and `minLength` at most.
const MAX_MIN_LENGTH: u64 = 1_000;

/// A value that `schema` accepts.
pub fn minimal_instance(schema: &Value) -> Value {
    let mut generator = Generator { root: schema, open: vec!["#"], values_left: MAX_VALUES };
    generator.instance(schema, 0)
}

struct Generator<'a> {
    /// The whole document, which `$ref` points into.
    root: &'a Value,
    /// The references being followed: an optional part that leads back to one is left out.
    open: Vec<&'a str>,
    values_left: usize,
}

impl<'a> Generator<'a> {
    fn instance(&mut self, schema: &'a Value, depth: usize) -> Value {
        if depth > MAX_DEPTH || self.values_left == 0 {
            return Value::Null;
        }
        self.spend(0);
        // `true` and `{}` accept anything; nothing satisfies `false`.
        let Some(rules) = schema.as_object() else { return json!({}) };
        if let Some(constant) = rules.get("const") {
            self.spend(constant.to_string().len());
            return constant.clone();
        }
        if let Some(first) = rules.get("enum").and_then(Value::as_array).and_then(|all| all.first())
        {
            self.spend(first.to_string().len());
            return first.clone();
        }
        if let Some(reference) = rules.get("$ref").and_then(Value::as_str) {
            let Some(target) = self.resolve(reference) else { return Value::Null };
            self.open.push(reference);
            let instance = self.instance(target, depth + 1);
            self.open.pop();
            return instance;
        }
        if let Some(union) = ["anyOf", "oneOf"].iter().find_map(|key| rules.get(*key)) {
            let all = union.as_array().map_or(&[][..], Vec::as_slice);
            let chosen = all.iter().find(|schema| !self.leads_back(schema)).or(all.first());
            return chosen.map_or(Value::Null, |chosen| self.instance(chosen, depth + 1));
        }
        if let Some(parts) = rules.get("allOf").and_then(Value::as_array) {
            return self.all_of(rules, parts, depth);
        }
        self.of_type(rules, depth)
    }

    /// `#`, `#/$defs/Name`, `#/properties/x/items`: a JSON pointer (RFC 6901) into the document.
    fn resolve(&self, reference: &str) -> Option<&'a Value> {
        self.root.pointer(reference.strip_prefix('#')?)
    }

    /// Whether an instance of `schema` holds one of a schema being generated.
    fn leads_back(&self, schema: &Value) -> bool {
        let union = || ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key)?.as_array());
        match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.open.contains(&reference),
            None => union().is_some_and(|all| all.iter().all(|schema| self.leads_back(schema))),
        }
    }

    /// Counts one value, and its bytes where they come from the schema.
    fn spend(&mut self, bytes: usize) {
        self.values_left = self.values_left.saturating_sub(1 + bytes / BYTES_PER_VALUE);
    }

    /// The properties of every part together; of other values the first part's.
    fn all_of(&mut self, rules: &'a Map<String, Value>, parts: &'a [Value], depth: usize) -> Value {
        let mut merged = match self.of_type(rules, depth) {
            Value::Object(own) => own,
            _ => Map::new(),
        };
        for part in parts {
            match self.instance(part, depth + 1) {
                Value::Object(more) => merged.extend(more),
                other if merged.is_empty() => return other,
                _ => {}
            }
        }
        Value::Object(merged)
    }

    fn of_type(&mut self, rules: &'a Map<String, Value>, depth: usize) -> Value {
        match type_name(rules) {
            "string" => Value::String(string(rules)),
            "integer" => integer(rules),
            "number" => number(rules),
            "boolean" => Value::Bool(true),
            "null" => Value::Null,
            "array" => self.array(rules, depth),
            _ => self.object(rules, depth),
        }
    }

    fn object(&mut self, rules: &'a Map<String, Value>, depth: usize) -> Value {
        let properties = rules.get("properties").and_then(Value::as_object);
        let required = rules.get("required").and_then(Value::as_array);
        let names = required.into_iter().flatten().filter_map(Value::as_str);
        let mut object = Map::new();
        for name in names {
            if self.values_left == 0 {
                break;
            }
            self.spend(name.len());
            let value = match properties.and_then(|properties| properties.get(name)) {
                Some(schema) => self.instance(schema, depth + 1),
                None => json!("example"),
            };
            object.insert(name.to_owned(), value);
        }
        Value::Object(object)
    }

    fn array(&mut self, rules: &'a Map<String, Value>, depth: usize) -> Value {
        let prefix: &[Value] =
            rules.get("prefixItems").and_then(Value::as_array).map_or(&[], Vec::as_slice);
        let mut items: Vec<Value> =
            prefix.iter().map(|schema| self.instance(schema, depth + 1)).collect();
        if let Some(schema) = rules.get("items").filter(|items| items.is_object()) {
            // One item shows the shape, where the schema leaves the number open.
            let wanted = match unsigned(rules, "minItems") {
                Some(min) => min,
                None if self.leads_back(schema) || rules.get("maxItems") == Some(&json!(0)) => 0,
                None => 1,
            };
            while (items.len() as u64) < wanted && self.values_left > 0 {
                items.push(self.instance(schema, depth + 1));
            }
        }
        Value::Array(items)
    }
}

/// The `type`, or the first of several that is not null, or what the other rules imply.
fn type_name(rules: &Map<String, Value>) -> &str {
    match rules.get("type") {
        Some(Value::String(name)) => name,
        Some(Value::Array(names)) => {
            let mut names = names.iter().filter_map(Value::as_str);
            names.find(|name| *name != "null").unwrap_or("null")
        }
        _ if rules.contains_key("items") || rules.contains_key("prefixItems") => "array",
        _ => "object",
    }
}

/// The keyword's value, bounded by [`MAX_MIN_LENGTH`].
fn unsigned(rules: &Map<String, Value>, keyword: &str) -> Option<u64> {
    rules.get(keyword).and_then(Value::as_u64).map(|value| value.min(MAX_MIN_LENGTH))
}

/// Formats of JSON Schema 2020-12, validation vocabulary, section 7.3.
fn string(rules: &Map<String, Value>) -> String {
    let text = match rules.get("format").and_then(Value::as_str) {
        Some("date-time") => "2025-01-01T00:00:00Z",
        Some("date") => "2025-01-01",
        Some("time") => "00:00:00Z",
        Some("duration") => "PT1S",
        Some("email") => "someone@example.com",
        Some("hostname") => "example.com",
        Some("ipv4") => "192.0.2.1",
        Some("ipv6") => "2001:db8::1",
        Some("uri") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        _ => "example",
    };
    let min = usize::try_from(unsigned(rules, "minLength").unwrap_or(0)).unwrap_or(0);
    let max = rules.get("maxLength").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let mut text: String = text.chars().take(max).collect();
    text.extend(std::iter::repeat_n('x', min.saturating_sub(text.len())));
    text
}

fn integer(rules: &Map<String, Value>) -> Value {
    // A float cast to an integer saturates, so no bound is too large.
    #[expect(clippy::cast_possible_truncation, reason = "a bound beyond i64 may lose precision")]
    let whole = within_bounds(rules, 1.0).ceil() as i64;
    json!(whole)
}

fn number(rules: &Map<String, Value>) -> Value {
    Number::from_f64(within_bounds(rules, 0.5)).map_or(json!(1), Value::Number)
}

/// `1` where the bounds allow it, otherwise the bound nearest to it, moved off an exclusive bound
/// by `step` and up to the next multiple.
fn within_bounds(rules: &Map<String, Value>, step: f64) -> f64 {
    let bound = |keyword: &str| rules.get(keyword).and_then(Value::as_f64);
    let mut value: f64 = 1.0;
    if let Some(max) = bound("maximum") {
        value = value.min(max);
    }
    if let Some(max) = bound("exclusiveMaximum") {
        value = value.min(max - step);
    }
    if let Some(min) = bound("minimum") {
        value = value.max(min);
    }
    if let Some(min) = bound("exclusiveMinimum") {
        value = value.max(min + step);
    }
    if let Some(multiple) = bound("multipleOf").filter(|multiple| *multiple > 0.0) {
        value = (value / multiple).ceil() * multiple;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: Value, expected: Value) {
        assert_eq!(minimal_instance(&schema), expected, "for {schema}");
    }

    #[test]
    fn every_kind_of_value() {
        check(json!({"type": "string"}), json!("example"));
        check(json!({"type": "string", "minLength": 9, "maxLength": 9}), json!("examplexx"));
        check(json!({"type": "string", "format": "date"}), json!("2025-01-01"));
        check(json!({"type": "integer"}), json!(1));
        check(json!({"type": "integer", "minimum": 10, "multipleOf": 4}), json!(12));
        check(json!({"type": "integer", "exclusiveMaximum": 0}), json!(-1));
        check(json!({"type": "number", "exclusiveMinimum": 3}), json!(3.5));
        check(json!({"type": ["null", "boolean"]}), json!(true));
        check(json!({"enum": ["b", "a"]}), json!("b"));
        check(json!({"const": 7}), json!(7));
        check(json!({"type": "array", "items": {"type": "string"}}), json!(["example"]));
        check(
            json!({"type": "array", "items": {"type": "null"}, "minItems": 2}),
            json!([null, null]),
        );
        check(json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), json!("example"));
        check(json!(true), json!({}));
    }

    #[test]
    fn an_object_has_its_required_properties_only() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"$ref": "#/$defs/unit"},
                "note": {"type": "string"},
                "at": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
            },
            "required": ["city", "unit", "at"],
            "$defs": {"unit": {"enum": ["celsius", "fahrenheit"]}},
        });
        check(schema, json!({"city": "example", "unit": "celsius", "at": {"lat": 1.0}}));
    }

    #[test]
    fn all_of_is_merged() {
        let part = |name: &str| json!({"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]});
        check(json!({"allOf": [part("a"), part("b")]}), json!({"a": 1, "b": 1}));
    }

    #[test]
    fn recursion_ends() {
        let list = json!({
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
            "required": ["next"],
        });
        check(list, json!({"next": null}));
        let names: Vec<String> = (0..20).map(|n| format!("p{n}")).collect();
        let properties: Map<String, Value> =
            names.iter().map(|name| (name.clone(), json!({"$ref": "#"}))).collect();
        let tree = json!({"type": "object", "properties": properties, "required": names});
        assert!(minimal_instance(&tree).to_string().len() < 400_000);
        check(json!({"$ref": "#"}), Value::Null);
        check(json!({"$ref": "https://example.com/x"}), Value::Null);
    }
}
