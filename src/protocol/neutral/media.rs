//! The images and documents of a conversation that are somewhere else.

use super::{Conversation, Dialect, Part, PartBody, Source, target::part_path};

/// What is named by address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A document.
    Document,
}

impl MediaKind {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Image, Self::Document];

    /// Where a part of this kind is.
    fn source(self, body: &PartBody) -> Option<&Source> {
        match (self, body) {
            (Self::Image, PartBody::Image { source, .. })
            | (Self::Document, PartBody::Document { source, .. }) => Some(source),
            _ => None,
        }
    }

    fn source_mut(self, body: &mut PartBody) -> Option<&mut Source> {
        match (self, body) {
            (Self::Image, PartBody::Image { source, .. })
            | (Self::Document, PartBody::Document { source, .. }) => Some(source),
            _ => None,
        }
    }
}

impl Conversation {
    /// Images or documents by address, in order: the path of the field and the address.
    pub fn addresses(&self, kind: MediaKind) -> Vec<(String, &str)> {
        let field = match (self.origin, kind) {
            (Dialect::Anthropic, _) => "source.url",
            (_, MediaKind::Image) => "image_url",
            (_, MediaKind::Document) => "file_url",
        };
        let mut found = Vec::new();
        for turn in &self.turns {
            find(kind, &turn.parts, &turn.path, &mut |path, url| {
                found.push((format!("{path}.{field}"), url));
            });
        }
        found
    }

    /// Puts images or documents where their addresses are, as far as `fetched` knows them.
    pub fn put_media(&mut self, kind: MediaKind, fetched: &dyn Fn(&str) -> Option<Source>) {
        for turn in &mut self.turns {
            put(kind, &mut turn.parts, fetched);
        }
    }
}

fn find<'c>(
    kind: MediaKind,
    parts: &'c [Part],
    path: &str,
    found: &mut dyn FnMut(String, &'c str),
) {
    for (at, part) in parts.iter().enumerate() {
        if let PartBody::ToolResult(result) = &part.body {
            find(kind, &result.content, &part_path(path, at), found);
        } else if let Some(Source::Url(url)) = kind.source(&part.body) {
            found(part_path(path, at), url);
        }
    }
}

fn put(kind: MediaKind, parts: &mut [Part], fetched: &dyn Fn(&str) -> Option<Source>) {
    for part in parts {
        if let PartBody::ToolResult(result) = &mut part.body {
            put(kind, &mut result.content, fetched);
        } else if let Some(source) = kind.source_mut(&mut part.body)
            && let Source::Url(url) = source
            && let Some(here) = fetched(url)
        {
            *source = here;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MediaKind, Source};
    use crate::protocol::{neutral::Surface, translate::read_request};

    #[test]
    fn what_is_by_address_is_found_under_its_callers_names_and_replaced() {
        let image = |url: &str| format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"}}}}"#);
        let chat = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"x"}},{},{}]}}]}}"#,
            image("https://a/1.png"),
            image("data:image/png;base64,AAAA"),
        );
        let messages = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[
            {"type":"tool_result","tool_use_id":"t","content":[
                {"type":"image","source":{"type":"url","url":"https://a/2.png"}},
                {"type":"document","source":{"type":"url","url":"https://a/2.pdf"}}]}]}]}"#;
        let responses = r#"{"model":"m","input":[{"role":"user","content":[
            {"type":"input_image","image_url":"https://a/3.png"},
            {"type":"input_file","file_url":"https://a/3.pdf"}]}]}"#;
        use MediaKind::{Document, Image};
        for (surface, body, kind, expected) in [
            (
                Surface::OpenAiChat,
                chat.as_str(),
                Image,
                ("messages[0].content[1].image_url", "https://a/1.png"),
            ),
            (
                Surface::Anthropic,
                messages,
                Image,
                ("messages[0].content[0].content[0].source.url", "https://a/2.png"),
            ),
            (
                Surface::Anthropic,
                messages,
                Document,
                ("messages[0].content[0].content[1].source.url", "https://a/2.pdf"),
            ),
            (
                Surface::OpenAiResponses,
                responses,
                Image,
                ("input[0].content[0].image_url", "https://a/3.png"),
            ),
            (
                Surface::OpenAiResponses,
                responses,
                Document,
                ("input[0].content[1].file_url", "https://a/3.pdf"),
            ),
        ] {
            let mut read = read_request(surface, body.as_bytes()).unwrap();
            let found = read.addresses(kind);
            let found: Vec<_> = found.iter().map(|(path, url)| (path.as_str(), *url)).collect();
            assert_eq!(found, [expected], "{surface:?}");
            read.put_media(kind, &|_| None);
            assert_eq!(read.addresses(kind).len(), 1);
            read.put_media(kind, &|url| {
                (url == expected.1).then(|| Source::FileId("f".to_owned()))
            });
            assert_eq!(read.addresses(kind), []);
        }
    }
}
