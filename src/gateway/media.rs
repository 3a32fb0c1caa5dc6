//! Images and documents by address for a candidate whose provider does not fetch them.
//!
//! They are fetched after the budget has taken the request and before the provider is asked. One
//! that cannot be fetched is the caller's to mend: no other candidate is asked because of it. Only
//! where one has been asked already, the failure of that one is what the caller is told.

use std::{collections::HashMap, time::Instant};

use reqwest::Url;

use super::{
    Gateway, RequestInfo,
    prepare::{PrepareError, Prepared},
};
use crate::{
    config::Config,
    media::{FetchError, FetchSettings, Fetched, Fetcher, MAX_FETCHED, Reach},
    policy::ModelCard,
    protocol::{
        fields::RequestError,
        incoming::Incoming,
        neutral::{Conversation, Dialect, MediaKind, Source, Surface},
    },
    upstream::{Api, Provider, Upstreams},
};

/// Who fetches images and documents; `None` where the configuration has none fetched.
pub struct Fetchers {
    images: Option<Fetcher>,
    documents: Option<Fetcher>,
}

impl Fetchers {
    /// As the configuration says, from addresses that `reach` allows.
    pub fn new(config: &Config, upstreams: &Upstreams, reach: Reach) -> Self {
        let fetcher = |kind, settings: &Option<FetchSettings>| {
            let settings = settings.clone()?;
            Some(Fetcher::new(kind, settings, upstreams.tls().clone(), reach))
        };
        Self {
            images: fetcher(MediaKind::Image, &config.images),
            documents: fetcher(MediaKind::Document, &config.documents),
        }
    }

    fn of(&self, kind: MediaKind) -> Option<&Fetcher> {
        match kind {
            MediaKind::Image => self.images.as_ref(),
            MediaKind::Document => self.documents.as_ref(),
        }
    }
}

/// What came of what one request names by address, where it was asked for.
#[derive(Debug, Default)]
pub struct Media {
    images: Found,
    documents: Found,
}

/// By address.
type Found = HashMap<String, Result<Fetched, FetchError>>;

impl Media {
    /// The conversation, `named` where its signatures' makers are, with everything inside that
    /// this provider would not fetch, asked in this language; `None` where there is nothing.
    pub fn put_into(
        &self,
        request: &Incoming,
        named: Option<&Conversation>,
        provider: &Provider,
        dialect: Dialect,
    ) -> Option<Conversation> {
        let wanted = |kind: &MediaKind| {
            !self.of(*kind).is_empty() && !provider.takes_addresses(*kind, dialect)
        };
        let mut wanted = MediaKind::ALL.into_iter().filter(wanted).peekable();
        wanted.peek()?;
        let mut filled = named.or(request.conversation().ok())?.clone();
        for kind in wanted {
            filled.put_media(kind, &|url| {
                let fetched = self.of(kind).get(url)?.as_ref().ok()?;
                let (media_type, data) = (fetched.media_type.to_owned(), fetched.data.clone());
                Some(Source::Base64 { media_type, data })
            });
        }
        Some(filled)
    }

    fn of(&self, kind: MediaKind) -> &Found {
        match kind {
            MediaKind::Image => &self.images,
            MediaKind::Document => &self.documents,
        }
    }

    fn note(&mut self, kind: MediaKind, url: &str, outcome: Result<Fetched, FetchError>) {
        let found = match kind {
            MediaKind::Image => &mut self.images,
            MediaKind::Document => &mut self.documents,
        };
        found.insert(url.to_owned(), outcome);
    }

    /// The addresses of which nothing is known yet and which this provider would not fetch,
    /// each once; none after one that cannot be fetched.
    fn missing<'c>(
        &self,
        kind: MediaKind,
        conversation: &'c Conversation,
        provider: &Provider,
    ) -> Vec<&'c str> {
        let mut missing = Vec::new();
        for (_, url) in conversation.addresses(kind) {
            match self.of(kind).get(url) {
                Some(Err(_)) => return Vec::new(),
                Some(Ok(_)) => {}
                None if is_googles_own(url, provider) || missing.contains(&url) => {}
                None => missing.push(url),
            }
        }
        missing
    }

    /// Bytes so far, of both kinds.
    fn length(&self) -> usize {
        let found = self.images.values().chain(self.documents.values());
        let length: usize = found.flatten().map(|one| one.data.len()).sum();
        length / 4 * 3
    }
}

impl Gateway {
    /// `prepared` with the images and documents inside that it names by address and that its
    /// provider would not fetch, where the configuration has them fetched.
    pub(super) async fn with_media(
        &self,
        request: &Incoming,
        info: &RequestInfo,
        card: &ModelCard,
        prepared: Prepared,
        media: &mut Media,
    ) -> Result<Prepared, PrepareError> {
        let held = [
            (MediaKind::Image, request.content.images),
            (MediaKind::Document, request.content.documents),
        ];
        let mut came = false;
        for (kind, _) in held.into_iter().filter(|(_, holds)| *holds) {
            let Some(fetcher) = self.fetchers.of(kind) else { continue };
            let Some(provider) = self.upstreams.provider(&card.provider) else { continue };
            if provider.takes_addresses(kind, prepared.dialect) {
                continue;
            }
            // What cannot be read goes on as it came.
            let Ok(conversation) = request.conversation() else { return Ok(prepared) };
            let missing = media.missing(kind, conversation, provider);
            came |= !missing.is_empty();
            self.fetch(fetcher, kind, &missing, info, media).await?;
            for (path, url) in conversation.addresses(kind) {
                if let Some(Err(error)) = media.of(kind).get(url) {
                    return Err(not_fetched(request, path, error));
                }
            }
        }
        if came { self.prepare(request, card, info, media) } else { Ok(prepared) }
    }

    /// Asks for what is missing.
    async fn fetch(
        &self,
        fetcher: &Fetcher,
        kind: MediaKind,
        missing: &[&str],
        info: &RequestInfo,
        media: &mut Media,
    ) -> Result<(), PrepareError> {
        if let Some(first) = missing.get(MAX_FETCHED.saturating_sub(media.of(kind).len())) {
            self.note_fetched(info, kind, first, &Err(FetchError::TooMany));
            media.note(kind, first, Err(FetchError::TooMany));
            return Ok(());
        }
        if missing.is_empty() {
            return Ok(());
        }
        let settings = fetcher.settings();
        let own = info.deadlines.total.and_then(|total| info.received.checked_add(total));
        let deadline = Instant::now() + settings.timeout;
        let earliest = own.map_or(deadline, |own| own.min(deadline));
        let total = settings.max_total_bytes.saturating_sub(media.length());
        // Boxed: hardly any request pays for the room that it takes.
        let fetched = Box::pin(fetcher.fetch(missing, total, earliest)).await;
        if own.is_some_and(|own| own <= Instant::now()) {
            return Err(info.total_passed().into());
        }
        for (url, outcome) in missing.iter().zip(fetched) {
            self.note_fetched(info, kind, url, &outcome);
            media.note(kind, url, outcome);
        }
        Ok(())
    }

    fn note_fetched(
        &self,
        info: &RequestInfo,
        kind: MediaKind,
        url: &str,
        outcome: &Result<Fetched, FetchError>,
    ) {
        let label = outcome.as_ref().map_or_else(FetchError::label, |_| "ok");
        match kind {
            MediaKind::Image => self.metrics.image_fetched(label),
            MediaKind::Document => self.metrics.document_fetched(label),
        }
        if outcome.is_err() {
            // The rest of the address may be a secret.
            let host = Url::parse(url).ok().and_then(|url| Some(url.host_str()?.to_owned()));
            let request_id = info.request_id.as_str();
            tracing::warn!(request_id, host, outcome = label, ?kind, "an address was not fetched");
        }
    }
}

/// Whether only Google can read what is there: its storage, and its API's files.
fn is_googles_own(url: &str, provider: &Provider) -> bool {
    let starts = ["gs://", "https://generativelanguage.googleapis.com/"];
    provider.api == Api::Gemini && starts.iter().any(|start| url.starts_with(start))
}

fn not_fetched(request: &Incoming, path: String, error: &FetchError) -> PrepareError {
    let instead = match request.surface {
        Surface::Anthropic => "send it as a `base64` source",
        _ if path.ends_with("file_url") => "send it as `file_data`, a `data:` URL in base64",
        _ => "send it as a `data:` URL in base64",
    };
    PrepareError::Request(RequestError::at(path, format!("{error}; {instead}")))
}
