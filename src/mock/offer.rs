//! What a request lets the model produce: tools, a schema, or text. Every dialect reads its own
//! fields into an [`Offer`]; which of them the answer follows is decided here, once.

use serde_json::{Value, json};

use super::answer::Subject;
use super::tokens;

/// A declared function.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub name: String,
    /// The JSON schema of its arguments; `{}` when it takes none.
    pub parameters: Value,
}

/// When a tool is to be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum ToolChoice {
    /// When the last user message names one and no result has come.
    #[default]
    Auto,
    Never,
    Always,
    Named(String),
}

/// What the request lets the model produce.
#[derive(Debug, Clone, Default)]
pub(super) struct Offer {
    pub tools: Vec<Tool>,
    pub choice: ToolChoice,
    /// One call in an answer at most.
    pub one_call: bool,
    /// The schema of a structured output.
    pub format: Option<Value>,
}

impl Offer {
    /// The estimate for the declarations, which are part of the prompt.
    pub fn prompt_tokens(&self) -> u64 {
        let of_tool =
            |tool: &Tool| tokens::count(&tool.name) + tokens::count(&tool.parameters.to_string());
        let format = self.format.as_ref().map_or(0, |schema| tokens::count(&schema.to_string()));
        self.tools.iter().map(of_tool).sum::<u64>() + format
    }

    /// Whether a tool of that name is declared.
    pub fn has_tool(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.name == name)
    }

    /// What the answer is about. `tool_result`: the results, when the last message brings them.
    /// A call that is demanded is made even then, as by the real APIs.
    pub fn subject(self, last_user_text: String, tool_result: Option<String>) -> Subject {
        let mut called = self.called(&last_user_text, tool_result.is_some());
        if self.one_call {
            called.truncate(1);
        }
        if !called.is_empty() {
            let call = |tool: &Tool| (tool.name.clone(), tool.parameters.clone());
            return Subject::Calls(called.into_iter().map(call).collect());
        }
        match (self.format, tool_result) {
            (Some(schema), _) => Subject::Structured { schema },
            (None, Some(result)) => Subject::ToolResult(result),
            (None, None) => Subject::Message(last_user_text),
        }
    }

    fn called(&self, text: &str, has_result: bool) -> Vec<&Tool> {
        match &self.choice {
            ToolChoice::Never => Vec::new(),
            ToolChoice::Named(name) => self.tools.iter().filter(|t| t.name == *name).collect(),
            ToolChoice::Always => {
                let named = self.named(text);
                if named.is_empty() { self.tools.iter().take(1).collect() } else { named }
            }
            ToolChoice::Auto if has_result => Vec::new(),
            ToolChoice::Auto => self.named(text),
        }
    }

    /// The tools that `text` names, in its order. `get_weather_map` contains `get_weather`: a
    /// name inside a longer one does not count.
    fn named(&self, text: &str) -> Vec<&Tool> {
        let mut found: Vec<(usize, &Tool)> = Vec::new();
        let mut longest_first: Vec<&Tool> = self.tools.iter().collect();
        longest_first.sort_by_key(|tool| std::cmp::Reverse(tool.name.len()));
        let mut taken: Vec<(usize, usize)> = Vec::new();
        for tool in longest_first {
            let places =
                text.match_indices(tool.name.as_str()).map(|(at, name)| (at, at + name.len()));
            let free =
                |place: &(usize, usize)| !taken.iter().any(|t| t.0 < place.1 && place.0 < t.1);
            let places: Vec<(usize, usize)> = places.filter(free).collect();
            found.extend(places.first().map(|place| (place.0, tool)));
            taken.extend(places);
        }
        found.sort_by_key(|(at, _)| *at);
        found.into_iter().map(|(_, tool)| tool).collect()
    }
}

/// The schema for a caller that wants JSON and does not say which.
pub(super) fn any_object() -> Value {
    json!({
        "type": "object",
        "properties": {"answer": {"type": "string"}},
        "required": ["answer"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(text: &str, one_call: bool) -> Vec<String> {
        let tool = |name: &str| Tool { name: name.to_owned(), parameters: json!({}) };
        let tools = ["get", "get_weather", "get_weather_map", "send"].map(tool).to_vec();
        let offer = Offer { tools, one_call, ..Offer::default() };
        match offer.subject(text.to_owned(), None) {
            Subject::Calls(calls) => calls.into_iter().map(|(name, _)| name).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn every_tool_that_is_named_is_called_in_the_order_of_the_text() {
        assert_eq!(called("send, then get_weather", false), ["send", "get_weather"]);
        assert_eq!(called("get_weather_map", false), ["get_weather_map"]);
        assert_eq!(called("get_weather_map and get_weather", true), ["get_weather_map"]);
        assert!(called("hello", false).is_empty());
    }
}
