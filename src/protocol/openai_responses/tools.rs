//! The tools of a request. Functions are functions everywhere; groups of tools (`namespace`) exist
//! only here, and tools that take a text (`custom`) only in OpenAI's dialects. Coding agents use both.

use std::collections::HashSet;

use crate::protocol::{
    fields::{Fields, RequestError},
    json::{Json, RawObject, object},
    neutral::{
        Conversation, Function, KnownAs, Tool, ToolChoice, Warnings,
        freeform::{self, is_freeform},
        portable_id,
    },
};

/// The longest name of a function that every provider takes.
const MAX_NAME_CHARS: usize = 64;

/// Reads `tools` and `tool_choice`.
pub(super) fn read(body: &mut Fields, read: &mut Conversation) -> Result<(), RequestError> {
    let mut reader = Reader { names: HashSet::new(), tools: Vec::new(), lost: Warnings::default() };
    let offered = body.objects("tools")?;
    let whole: Vec<Json> = offered.iter().map(Fields::to_json).collect();
    for tool in offered {
        reader.tool(tool, None)?;
    }
    read.offer(reader.tools, whole);
    read.warnings.extend(&reader.lost);
    if let Some(choice) = body.take("tool_choice") {
        read.tool_choice = tool_choice(&choice);
        if read.tool_choice.is_none() {
            read.warnings.add("tool_choice_dropped", "tool_choice");
        }
    }
    Ok(())
}

/// The `type` of a call.
pub(super) fn call_type(known: Option<&KnownAs>) -> &'static str {
    if is_freeform(known) { "custom_tool_call" } else { "function_call" }
}

/// Writes what is called with what, after the call's `type`. The tool's name and the arguments are
/// a provider's.
pub(super) fn put_call(
    item: &mut RawObject,
    id: &str,
    name: &str,
    arguments: &str,
    known: Option<&KnownAs>,
) {
    item.put("call_id", id);
    item.put("name", known.map_or(name, |known| &known.name));
    match is_freeform(known) {
        true => item.put("input", &freeform::text(arguments)),
        false => item.put("arguments", arguments),
    }
    item.put_some("namespace", &known.and_then(|known| known.namespace.as_ref()));
}

/// The choice of this tool.
pub(super) fn named_choice(name: &str, known: Option<&KnownAs>) -> RawObject {
    let kind = if is_freeform(known) { "custom" } else { "function" };
    let mut choice = object! { "type": kind, "name": known.map_or(name, |known| &known.name) };
    choice.put_some("namespace", &known.and_then(|known| known.namespace.as_ref()));
    choice
}

/// The name under which providers know the tool that a call names.
pub(super) fn name_in_call(call: &mut Fields) -> Result<String, RequestError> {
    let namespace: Option<String> = call.optional("namespace")?;
    Ok(provider_name(namespace.as_deref(), &call.required::<String>("name")?))
}

fn provider_name(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => portable_id(&format!("{namespace}__{name}"), MAX_NAME_CHARS),
        None => name.to_owned(),
    }
}

struct Reader {
    /// Of all tools so far.
    names: HashSet<String>,
    tools: Vec<Tool>,
    lost: Warnings,
}

/// A group of tools, and what it says that none of them has told yet.
struct Namespace {
    name: String,
    description: Option<String>,
}

impl Reader {
    fn tool(
        &mut self,
        mut tool: Fields,
        namespace: Option<&mut Namespace>,
    ) -> Result<(), RequestError> {
        let whole = tool.to_json();
        match tool.required::<String>("type")?.as_str() {
            "function" => self.function(tool, namespace, false),
            "custom" => self.function(tool, namespace, true),
            "namespace" if namespace.is_none() => self.namespace(tool),
            _ => {
                self.tools.push(Tool::Native { tool: whole, path: tool.path().to_owned() });
                Ok(())
            }
        }
    }

    fn namespace(&mut self, mut group: Fields) -> Result<(), RequestError> {
        let description = group.optional("description")?;
        let mut namespace = Namespace { name: group.required("name")?, description };
        for tool in group.objects("tools")? {
            self.tool(tool, Some(&mut namespace))?;
        }
        group.warn_rest(&mut self.lost);
        Ok(())
    }

    fn function(
        &mut self,
        mut tool: Fields,
        namespace: Option<&mut Namespace>,
        is_freeform: bool,
    ) -> Result<(), RequestError> {
        let name: String = tool.required("name")?;
        let mut description: Option<String> = tool.optional("description")?;
        let mut group = None;
        if let Some(namespace) = namespace {
            let of_group = namespace.description.take();
            description = match (of_group, description) {
                (Some(of_group), Some(own)) => Some(format!("{of_group}\n\n{own}")),
                (of_group, own) => of_group.or(own),
            };
            group = Some(namespace.name.clone());
        }
        let function = Function {
            name: provider_name(group.as_deref(), &name),
            known_as: (group.is_some() || is_freeform).then_some(KnownAs {
                namespace: group,
                name,
                is_freeform,
            }),
            parameters: match is_freeform {
                true => Some(freeform::schema()),
                false => tool.take("parameters"),
            },
            description: match is_freeform {
                true => freeform::description(description, tool.take("format").as_ref()),
                false => description,
            },
            strict: tool.optional("strict")?,
            cache: None,
            path: tool.path().to_owned(),
        };
        if self.names.insert(function.name.clone()) {
            self.tools.push(Tool::Function(function));
        } else {
            self.lost.add("tool_dropped", tool.path());
        }
        tool.warn_rest(&mut self.lost);
        Ok(())
    }
}

/// A word, or `{"type":"function","name":…}`.
fn tool_choice(choice: &Json) -> Option<ToolChoice> {
    match choice.as_string().as_deref() {
        Some("auto") => Some(ToolChoice::Auto),
        Some("none") => Some(ToolChoice::None),
        Some("required") => Some(ToolChoice::Required),
        Some(_) => None,
        None => {
            let mut choice = Fields::of(choice, String::new()).ok()?;
            let kind: String = choice.required("type").ok()?;
            let is_tool = matches!(kind.as_str(), "function" | "custom");
            is_tool.then(|| name_in_call(&mut choice).ok()).flatten().map(ToolChoice::Named)
        }
    }
}
