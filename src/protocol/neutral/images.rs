//! The images of a conversation that are somewhere else.

use super::{Conversation, Dialect, Part, PartBody, Source, target::part_path};

impl Conversation {
    /// Images by address, in order: the path of the field and the address.
    pub fn image_urls(&self) -> Vec<(String, &str)> {
        let field = match self.origin {
            Dialect::Anthropic => "source.url",
            _ => "image_url",
        };
        let mut found = Vec::new();
        for turn in &self.turns {
            find(&turn.parts, &turn.path, &mut |path, url| {
                found.push((format!("{path}.{field}"), url));
            });
        }
        found
    }

    /// Puts images where their addresses are, as far as `fetched` knows them.
    pub fn put_images(&mut self, fetched: &dyn Fn(&str) -> Option<Source>) {
        for turn in &mut self.turns {
            put(&mut turn.parts, fetched);
        }
    }
}

fn find<'c>(parts: &'c [Part], path: &str, found: &mut dyn FnMut(String, &'c str)) {
    for (at, part) in parts.iter().enumerate() {
        match &part.body {
            PartBody::Image { source: Source::Url(url), .. } => found(part_path(path, at), url),
            PartBody::ToolResult(result) => find(&result.content, &part_path(path, at), found),
            _ => {}
        }
    }
}

fn put(parts: &mut [Part], fetched: &dyn Fn(&str) -> Option<Source>) {
    for part in parts {
        match &mut part.body {
            PartBody::Image { source, .. } => {
                if let Source::Url(url) = source
                    && let Some(image) = fetched(url)
                {
                    *source = image;
                }
            }
            PartBody::ToolResult(result) => put(&mut result.content, fetched),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Source;
    use crate::protocol::{neutral::Surface, translate::read_request};

    #[test]
    fn images_by_address_are_found_under_their_callers_names_and_replaced() {
        let image = |url: &str| format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"}}}}"#);
        let chat = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"x"}},{},{}]}}]}}"#,
            image("https://a/1.png"),
            image("data:image/png;base64,AAAA"),
        );
        let messages = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[
            {"type":"tool_result","tool_use_id":"t","content":[
                {"type":"image","source":{"type":"url","url":"https://a/2.png"}}]}]}]}"#;
        let responses = r#"{"model":"m","input":[{"role":"user","content":[
            {"type":"input_image","image_url":"https://a/3.png"}]}]}"#;
        for (surface, body, expected) in [
            (
                Surface::OpenAiChat,
                chat.as_str(),
                ("messages[0].content[1].image_url", "https://a/1.png"),
            ),
            (
                Surface::Anthropic,
                messages,
                ("messages[0].content[0].content[0].source.url", "https://a/2.png"),
            ),
            (
                Surface::OpenAiResponses,
                responses,
                ("input[0].content[0].image_url", "https://a/3.png"),
            ),
        ] {
            let mut read = read_request(surface, body.as_bytes()).unwrap();
            let found = read.image_urls();
            let found: Vec<_> = found.iter().map(|(path, url)| (path.as_str(), *url)).collect();
            assert_eq!(found, [expected], "{surface:?}");
            read.put_images(&|_| None);
            assert_eq!(read.image_urls().len(), 1);
            read.put_images(&|url| (url == expected.1).then(|| Source::FileId("f".to_owned())));
            assert_eq!(read.image_urls(), []);
        }
    }
}
