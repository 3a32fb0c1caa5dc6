//! From a conversation to the text that is weighed.
//!
//! What decides how much model a request needs is the last thing a person asked for. Agent
//! harnesses wrap that in reminders, environment dumps and tool results, which would drown it,
//! so they are taken out here. The same function serves the gateway, the `score` command,
//! training and evaluation: a score means the same everywhere.
//!
//! Cutting long texts is left to [`super::tokenize`], which knows tokens.

use std::borrow::Cow;

use super::repeats::without_repeats;
use crate::protocol::chat::{Content, Message};

/// Longest message that is searched for wrappers as a whole, in bytes; of a longer one the first
/// and last half of this are looked at (chosen: far beyond the tokens that are scored, and small
/// enough that the search costs well under a millisecond).
const MAX_SEARCHED_BYTES: usize = 256 * 1024;

/// Longest text that is weighed, in bytes; of a longer one the first and last half (chosen: far
/// more than the tokens and words that are scored, and a fraction of a millisecond to read).
const MAX_WEIGHED_BYTES: usize = 32 * 1024;

/// Blocks that harnesses add and that no person wrote: removed with their content.
/// (Claude Code; Codex; Cline and Roo; Cursor: as seen in their requests, 2026.)
const NOISE_TAGS: [&str; 14] = [
    "system-reminder",
    "local-command-stdout",
    "local-command-stderr",
    "local-command-caveat",
    "command-name",
    "command-message",
    "user-prompt-submit-hook",
    "environment_context",
    "environment_details",
    "user_instructions",
    "INSTRUCTIONS",
    "additional_data",
    "attached_files",
    "turn_aborted",
];

/// Blocks around what the person did write: the tags go, the content stays.
const WRAPPER_TAGS: [&str; 4] = ["user_query", "task", "user_message", "command-args"];

/// The text of a conversation that is weighed: the last user message that still says something
/// without its wrappers. Messages after it (tool calls and their results) are steps towards the
/// same instruction, so an agent's loop keeps one score.
///
/// When no user message says anything, the last one is taken as it is; without any user message,
/// the last text of any role; without any text, the empty string.
pub fn text_to_weigh(messages: &[Message]) -> Cow<'_, str> {
    let users = || messages.iter().rev().filter(|message| message.role == "user");
    for message in users() {
        let text = bounded(joined(&message.content));
        let cleaned = match text {
            Cow::Borrowed(text) => without_wrappers(text),
            Cow::Owned(text) => Cow::Owned(without_wrappers(&text).into_owned()),
        };
        if !cleaned.trim().is_empty() {
            return once(cleaned);
        }
    }
    let has_text = |message: &&Message| message.content.texts().any(|text| !text.trim().is_empty());
    users()
        .find(has_text)
        .or_else(|| messages.iter().rev().find(has_text))
        .map_or(Cow::Borrowed(""), |message| bounded(joined(&message.content)))
}

/// The text without what it says again, of a long one head and tail.
fn once(text: Cow<'_, str>) -> Cow<'_, str> {
    match head_and_tail(text, MAX_WEIGHED_BYTES) {
        Cow::Borrowed(text) => without_repeats(text),
        Cow::Owned(text) => Cow::Owned(without_repeats(&text).into_owned()),
    }
}

/// The text, or the head and tail of a very long one.
fn bounded(text: Cow<'_, str>) -> Cow<'_, str> {
    head_and_tail(text, MAX_SEARCHED_BYTES)
}

fn head_and_tail(text: Cow<'_, str>, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return text;
    }
    let head = text.floor_char_boundary(bytes / 2);
    let tail = text.ceil_char_boundary(text.len() - bytes / 2);
    let mut kept = String::with_capacity(bytes + 1);
    kept.push_str(text.get(..head).unwrap_or_default());
    kept.push('\n');
    kept.push_str(text.get(tail..).unwrap_or_default());
    Cow::Owned(kept)
}

/// All text of a content, parts separated by a line feed; borrows when there is one piece.
fn joined(content: &Content) -> Cow<'_, str> {
    let mut texts = content.texts();
    let Some(first) = texts.next() else { return Cow::Borrowed("") };
    let mut all = Cow::Borrowed(first);
    for text in texts {
        let all = all.to_mut();
        all.push('\n');
        all.push_str(text);
    }
    all
}

/// The text without harness blocks, trimmed. One pass over the text: a tag that is never closed
/// is searched for once and then left where it stands.
pub fn without_wrappers(text: &str) -> Cow<'_, str> {
    if !text.contains('<') {
        return Cow::Borrowed(text.trim());
    }
    let mut kept = String::new();
    let mut removed_any = false;
    let mut unclosed: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(position) = rest.find('<') {
        let (before, tag) = rest.split_at(position);
        if let Some(after) = skip_noise(tag, &mut unclosed).or_else(|| skip_wrapper_tag(tag)) {
            kept.push_str(before);
            rest = after;
            removed_any = true;
        } else {
            // Not ours: keep the bracket and go on behind it.
            kept.push_str(before);
            kept.push('<');
            rest = tag.get(1..).unwrap_or_default();
        }
    }
    if !removed_any {
        return Cow::Borrowed(text.trim());
    }
    kept.push_str(rest);
    Cow::Owned(kept.trim().to_owned())
}

/// The text behind a noise block that `text` opens with.
fn skip_noise<'a>(text: &'a str, unclosed: &mut Vec<&'static str>) -> Option<&'a str> {
    let (name, inside) = NOISE_TAGS.iter().find_map(|name| Some((*name, opened(text, name)?)))?;
    if unclosed.contains(&name) {
        return None;
    }
    let end = format!("</{name}>");
    let Some(position) = inside.find(&end) else {
        unclosed.push(name);
        return None;
    };
    inside.get(position + end.len()..)
}

/// The text behind an opening or closing wrapper tag that `text` starts with.
fn skip_wrapper_tag(text: &str) -> Option<&str> {
    WRAPPER_TAGS.iter().find_map(|name| {
        opened(text, name)
            .or_else(|| text.strip_prefix("</")?.strip_prefix(name)?.strip_prefix('>'))
    })
}

/// The text behind `<name>`.
fn opened<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.strip_prefix('<')?.strip_prefix(name)?.strip_prefix('>')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::chat::Part;

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: Content::Text(content.to_owned()) }
    }

    fn check(messages: &[Message], expected: &str) {
        assert_eq!(text_to_weigh(messages), expected);
    }

    #[test]
    fn the_last_user_message_is_weighed() {
        check(
            &[message("system", "be kind"), message("user", "one"), message("user", " two ")],
            "two",
        );
    }

    #[test]
    fn harness_blocks_are_removed_and_wrappers_opened() {
        check(
            &[message(
                "user",
                "<system-reminder>CLAUDE.md says a < b</system-reminder>\nRename x<y to z\n<environment_details>cwd</environment_details>",
            )],
            "Rename x<y to z",
        );
        check(&[message("user", "<user_query>\nWhy <b>?\n</user_query>")], "Why <b>?");
    }

    #[test]
    fn a_tool_loop_keeps_the_instruction_it_serves() {
        let tool_result = Message {
            role: "user".to_owned(),
            content: Content::Text("<system-reminder>todo list</system-reminder>".to_owned()),
        };
        check(
            &[
                message("user", "fix the build"),
                message("assistant", "calling make"),
                message("tool", "error: 400 lines"),
                tool_result,
            ],
            "fix the build",
        );
    }

    #[test]
    fn content_parts_are_joined_and_images_skipped() {
        let parts = Content::Parts(vec![
            Part::Text("What is".to_owned()),
            Part::Image,
            Part::Text("this?".to_owned()),
        ]);
        check(&[Message { role: "user".to_owned(), content: parts }], "What is\nthis?");
    }

    #[test]
    fn a_message_that_is_all_wrapper_is_taken_as_it_is() {
        let text = "<system-reminder>only this</system-reminder>";
        check(&[message("user", text)], text);
        check(&[message("system", "s")], "s");
        check(&[message("assistant", "")], "");
    }

    #[test]
    fn unclosed_tags_stay_and_cost_one_search() {
        let text = "<system-reminder>".repeat(1_000);
        check(&[message("user", &text)], &text);
    }

    #[test]
    fn of_a_very_long_message_head_and_tail_are_kept() {
        let text = format!("first {} last", "é<".repeat(5_000_000));
        let kept = [message("user", &text)];
        let kept = text_to_weigh(&kept);
        assert!(kept.len() <= MAX_WEIGHED_BYTES + 1);
        assert!(kept.starts_with("first ") && kept.ends_with(" last"));
    }
}
