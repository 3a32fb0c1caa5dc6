//! Asks for images: where, how often, how much and how long.
//!
//! Names are resolved here and every address is checked; the connection then goes to one of those
//! very addresses, so that a name which changes its mind in between gains nothing. An address in
//! the URL itself meets no resolver and is checked beside it.

use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{StreamExt as _, stream};
use reqwest::{
    Client, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{ACCEPT, LOCATION},
};
use tokio::sync::Semaphore;

use super::{Image, ImageError, ImageSettings, Reach, media_type};

/// Redirects followed for one image (chosen: a shortened address and the host's own).
const MAX_REDIRECTS: usize = 3;
/// Images of one request asked for at a time (chosen: what browsers ask of one host is six).
const AT_ONCE: usize = 6;
/// Images of all requests asked for at a time (chosen: each may occupy a thread while its name is
/// resolved, and the runtime has 512 of those for everything).
const AT_ONCE_IN_ALL: usize = 64;
/// Bytes by which every kind of image is known.
const HEAD_BYTES: usize = 12;

/// Fetches images. It keeps no connections: pictures rarely come twice from one host.
#[derive(Debug)]
pub struct Fetcher {
    settings: ImageSettings,
    tls: rustls::ClientConfig,
    reach: Reach,
    permits: Semaphore,
}

impl Fetcher {
    /// A fetcher that trusts whom `tls` trusts and asks the addresses that `reach` allows.
    pub fn new(settings: ImageSettings, tls: rustls::ClientConfig, reach: Reach) -> Self {
        Self { settings, tls, reach, permits: Semaphore::new(AT_ONCE_IN_ALL) }
    }

    /// How images are fetched.
    pub fn settings(&self) -> &ImageSettings {
        &self.settings
    }

    /// Fetches several until `deadline`, in their order and up to the first that fails: the answer
    /// is as long as `urls`, or its last entry is an error. `total` is what they may hold together.
    pub async fn fetch(
        &self,
        urls: &[&str],
        total: usize,
        deadline: Instant,
    ) -> Vec<Result<Image, ImageError>> {
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, "no client for images can be built");
                return vec![Err(ImageError::Unreachable)];
            }
        };
        let left = AtomicUsize::new(total);
        let one = |url| {
            let image = self.image(&client, url, &left);
            let in_time = tokio::time::timeout_at(deadline.into(), image);
            async { in_time.await.unwrap_or(Err(ImageError::Late)) }
        };
        let all: Vec<_> = urls.iter().copied().map(one).collect();
        let mut coming = stream::iter(all).buffered(AT_ONCE);
        let mut images = Vec::new();
        while let Some(image) = coming.next().await {
            let failed = image.is_err();
            images.push(image);
            if failed {
                break;
            }
        }
        images
    }

    /// A client that knows nothing of the caller, of proxies or of earlier answers.
    fn client(&self) -> reqwest::Result<Client> {
        Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Arc::new(Resolver(self.reach)))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("weighbridge/", env!("CARGO_PKG_VERSION")))
            .build()
    }

    async fn image(
        &self,
        client: &Client,
        url: &str,
        left: &AtomicUsize,
    ) -> Result<Image, ImageError> {
        let _permit = self.permits.acquire().await.map_err(|_| ImageError::Unreachable)?;
        let mut url = Url::parse(url).map_err(|_| ImageError::Url)?;
        self.check(&url)?;
        for _ in 0..=MAX_REDIRECTS {
            let request = client.get(url.clone());
            let request = request.header(ACCEPT, "image/png, image/jpeg, image/gif, image/webp");
            let response = request.send().await.map_err(|error| failure(&error))?;
            if response.status().is_success() {
                return self.read(response, left).await;
            }
            url = target(&response, &url).ok_or(ImageError::Unreachable)?;
            self.check(&url).map_err(|_| ImageError::Refused)?;
        }
        Err(ImageError::Unreachable)
    }

    /// Whether a URL may be asked, as far as it says itself where it leads.
    fn check(&self, url: &Url) -> Result<(), ImageError> {
        let is_plain = url.username().is_empty() && url.password().is_none();
        let (true, true, Some(host)) =
            (matches!(url.scheme(), "http" | "https"), is_plain, url.host_str())
        else {
            return Err(ImageError::Url);
        };
        if !self.is_allowed(host.trim_end_matches('.')) {
            return Err(ImageError::Host);
        }
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if !(self.reach)(address) => Err(ImageError::Refused),
            _ => Ok(()),
        }
    }

    fn is_allowed(&self, host: &str) -> bool {
        let hosts = &self.settings.allow_hosts;
        let fits = |allowed: &String| match allowed.strip_prefix('*') {
            Some(end) => host.ends_with(end),
            None => host == allowed,
        };
        hosts.is_empty() || hosts.iter().any(fits)
    }

    /// The body, if it is an image that is small enough. What is compressed stays so, and is none.
    async fn read(&self, mut response: Response, left: &AtomicUsize) -> Result<Image, ImageError> {
        let ImageSettings { max_bytes, max_total_bytes, .. } = self.settings;
        if response.content_length().is_some_and(|length| length > max_bytes as u64) {
            return Err(ImageError::TooLarge(max_bytes));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| ImageError::Unreachable)? {
            if bytes.len() + chunk.len() > max_bytes {
                return Err(ImageError::TooLarge(max_bytes));
            }
            let take = |left: usize| left.checked_sub(chunk.len());
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .map_err(|_| ImageError::AllTooLarge(max_total_bytes))?;
            bytes.extend_from_slice(&chunk);
            if bytes.len() >= HEAD_BYTES && media_type(&bytes).is_none() {
                return Err(ImageError::NotAnImage);
            }
        }
        let media_type = media_type(&bytes).ok_or(ImageError::NotAnImage)?;
        Ok(Image { media_type, data: STANDARD.encode(&bytes) })
    }
}

/// Where an answer sends one on to.
fn target(response: &Response, url: &Url) -> Option<Url> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    url.join(location).ok().filter(|_| response.status().is_redirection())
}

/// A name leads to an address that may not be asked.
#[derive(Debug, thiserror::Error)]
#[error("it is not at public addresses alone")]
struct NotPublic;

fn failure(error: &reqwest::Error) -> ImageError {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<NotPublic>() {
            return ImageError::Refused;
        }
        source = cause.source();
    }
    ImageError::Unreachable
}

/// Resolves names to addresses that may all be asked, or to none.
struct Resolver(Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            if !found.iter().all(|address| reach(address.ip())) {
                return Err(NotPublic.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
