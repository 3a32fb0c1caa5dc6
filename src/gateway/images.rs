//! Images by address for a candidate whose provider does not fetch them.
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
    images::{Image, ImageError, MAX_IMAGES},
    policy::ModelCard,
    protocol::{
        fields::RequestError,
        incoming::Incoming,
        neutral::{Conversation, Source, Surface},
    },
    upstream::{Api, Provider},
};

/// What came of the images of one request that were asked for, by their addresses.
#[derive(Debug, Default)]
pub struct Images(HashMap<String, Result<Image, ImageError>>);

impl Images {
    /// The conversation, `named` where its signatures' makers are, with the images inside that
    /// this provider would not fetch; `None` where there are none.
    pub fn put_into(
        &self,
        request: &Incoming,
        named: Option<&Conversation>,
        provider: &Provider,
    ) -> Option<Conversation> {
        if self.0.is_empty() || provider.takes_image_urls() {
            return None;
        }
        let mut filled = named.or(request.conversation().ok())?.clone();
        filled.put_images(&|url| {
            let image = self.0.get(url)?.as_ref().ok()?;
            let (media_type, data) = (image.media_type.to_owned(), image.data.clone());
            Some(Source::Base64 { media_type, data })
        });
        Some(filled)
    }

    /// The addresses of which nothing is known yet and which this provider would not fetch,
    /// each once; none after one that cannot be fetched.
    fn missing<'c>(&self, conversation: &'c Conversation, provider: &Provider) -> Vec<&'c str> {
        let mut missing = Vec::new();
        for (_, url) in conversation.image_urls() {
            match self.0.get(url) {
                Some(Err(_)) => return Vec::new(),
                Some(Ok(_)) => {}
                None if is_googles_own(url, provider) || missing.contains(&url) => {}
                None => missing.push(url),
            }
        }
        missing
    }

    /// Bytes of base64 so far.
    fn length(&self) -> usize {
        self.0.values().flatten().map(|image| image.data.len()).sum()
    }
}

impl Gateway {
    /// `prepared` with the images inside that it names by address and that its provider would not
    /// fetch, where the configuration has them fetched.
    pub(super) async fn with_images(
        &self,
        request: &Incoming,
        info: &RequestInfo,
        card: &ModelCard,
        prepared: Prepared,
        images: &mut Images,
    ) -> Result<Prepared, PrepareError> {
        let Some(fetcher) = self.images.as_ref().filter(|_| request.content.images) else {
            return Ok(prepared);
        };
        let Some(provider) = self.upstreams.provider(&card.provider) else { return Ok(prepared) };
        if provider.takes_image_urls() || request.embeddings.is_some() {
            return Ok(prepared);
        }
        // What cannot be read goes on as it came.
        let Ok(conversation) = request.conversation() else { return Ok(prepared) };
        let missing = images.missing(conversation, provider);
        if !missing.is_empty() && missing.len() + images.0.len() <= MAX_IMAGES {
            let settings = fetcher.settings();
            let own = info.deadlines.total.and_then(|total| info.received.checked_add(total));
            let deadline = Instant::now() + settings.timeout;
            let earliest = own.map_or(deadline, |own| own.min(deadline));
            let total = settings.max_total_bytes.saturating_sub(images.length() / 4 * 3);
            // Boxed: hardly any request pays for the room that it takes.
            let fetched = Box::pin(fetcher.fetch(&missing, total, earliest)).await;
            if own.is_some_and(|own| own <= Instant::now()) {
                return Err(info.total_passed().into());
            }
            for (url, image) in missing.iter().zip(fetched) {
                self.note_image(info, url, &image);
                images.0.insert((*url).to_owned(), image);
            }
        } else if let Some(first) = missing.get(MAX_IMAGES.saturating_sub(images.0.len())) {
            self.note_image(info, first, &Err(ImageError::TooMany));
            images.0.insert((*first).to_owned(), Err(ImageError::TooMany));
        }
        for (path, url) in conversation.image_urls() {
            if let Some(Err(error)) = images.0.get(url) {
                return Err(not_fetched(request, path, error));
            }
        }
        match missing.is_empty() {
            true => Ok(prepared),
            false => self.prepare(request, card, info, images),
        }
    }

    fn note_image(&self, info: &RequestInfo, url: &str, image: &Result<Image, ImageError>) {
        let outcome = image.as_ref().map_or_else(ImageError::label, |_| "ok");
        self.metrics.image_fetched(outcome);
        if image.is_err() {
            // The rest of the address may be a secret.
            let host = Url::parse(url).ok().and_then(|url| Some(url.host_str()?.to_owned()));
            let request_id = info.request_id.as_str();
            tracing::warn!(request_id, host, outcome, "an image was not fetched");
        }
    }
}

/// Whether only Google can read what is there: its storage, and its API's files.
fn is_googles_own(url: &str, provider: &Provider) -> bool {
    let starts = ["gs://", "https://generativelanguage.googleapis.com/"];
    provider.api == Api::Gemini && starts.iter().any(|start| url.starts_with(start))
}

fn not_fetched(request: &Incoming, path: String, error: &ImageError) -> PrepareError {
    let instead = match request.surface {
        Surface::Anthropic => "send it as a `base64` source",
        _ => "send it as a `data:` URL in base64",
    };
    PrepareError::Request(RequestError::at(path, format!("{error}; {instead}")))
}
