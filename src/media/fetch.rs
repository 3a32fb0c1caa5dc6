//! Asks for images or documents: where, how often, how much and how long.
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

use super::{FetchError, FetchSettings, Fetched, Reach, media_type};
use crate::protocol::neutral::MediaKind;

/// Redirects followed for one address (chosen: a shortened address and the host's own).
const MAX_REDIRECTS: usize = 3;
/// Addresses of one request asked at a time (chosen: what browsers ask of one host is six).
const AT_ONCE: usize = 6;
/// Addresses of all requests asked at a time (chosen: each may occupy a thread while its name is
/// resolved, and the runtime has 512 of those for everything).
const AT_ONCE_IN_ALL: usize = 64;
/// Bytes by which everything that is fetched is known.
const HEAD_BYTES: usize = 12;

/// Fetches images, or documents. It keeps no connections: they rarely come twice from one host.
#[derive(Debug)]
pub struct Fetcher {
    kind: MediaKind,
    settings: FetchSettings,
    tls: rustls::ClientConfig,
    reach: Reach,
    permits: Semaphore,
}

impl Fetcher {
    /// A fetcher that trusts whom `tls` trusts and asks the addresses that `reach` allows.
    pub fn new(
        kind: MediaKind,
        settings: FetchSettings,
        tls: rustls::ClientConfig,
        reach: Reach,
    ) -> Self {
        Self { kind, settings, tls, reach, permits: Semaphore::new(AT_ONCE_IN_ALL) }
    }

    /// How it fetches.
    pub fn settings(&self) -> &FetchSettings {
        &self.settings
    }

    /// Fetches several until `deadline`, in their order and up to the first that fails: the answer
    /// is as long as `urls`, or its last entry is an error. `total` is what they may hold together.
    pub async fn fetch(
        &self,
        urls: &[&str],
        total: usize,
        deadline: Instant,
    ) -> Vec<Result<Fetched, FetchError>> {
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, "no client to fetch with can be built");
                return vec![Err(FetchError::Unreachable)];
            }
        };
        let left = AtomicUsize::new(total);
        let one = |url| {
            let coming = self.one(&client, url, &left);
            let in_time = tokio::time::timeout_at(deadline.into(), coming);
            async { in_time.await.unwrap_or(Err(FetchError::Late)) }
        };
        let all: Vec<_> = urls.iter().copied().map(one).collect();
        let mut coming = stream::iter(all).buffered(AT_ONCE);
        let mut fetched = Vec::new();
        while let Some(one) = coming.next().await {
            let failed = one.is_err();
            fetched.push(one);
            if failed {
                break;
            }
        }
        fetched
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

    async fn one(
        &self,
        client: &Client,
        url: &str,
        left: &AtomicUsize,
    ) -> Result<Fetched, FetchError> {
        let _permit = self.permits.acquire().await.map_err(|_| FetchError::Unreachable)?;
        let mut url = Url::parse(url).map_err(|_| FetchError::Url)?;
        self.check(&url)?;
        for _ in 0..=MAX_REDIRECTS {
            let request = client.get(url.clone());
            let request = request.header(ACCEPT, self.accepted());
            let response = request.send().await.map_err(|error| failure(&error))?;
            if response.status().is_success() {
                return self.read(response, left).await;
            }
            url = target(&response, &url).ok_or(FetchError::Unreachable)?;
            self.check(&url).map_err(|_| FetchError::Refused)?;
        }
        Err(FetchError::Unreachable)
    }

    fn accepted(&self) -> &'static str {
        match self.kind {
            MediaKind::Image => "image/png, image/jpeg, image/gif, image/webp",
            MediaKind::Document => "application/pdf",
        }
    }

    /// Whether a URL may be asked, as far as it says itself where it leads.
    fn check(&self, url: &Url) -> Result<(), FetchError> {
        let is_plain = url.username().is_empty() && url.password().is_none();
        let (true, true, Some(host)) =
            (matches!(url.scheme(), "http" | "https"), is_plain, url.host_str())
        else {
            return Err(FetchError::Url);
        };
        if !self.is_allowed(host.trim_end_matches('.')) {
            return Err(FetchError::Host);
        }
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if !(self.reach)(address) => Err(FetchError::Refused),
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

    /// The body, if it is of the kind and small enough. What is compressed stays so, and is not.
    async fn read(
        &self,
        mut response: Response,
        left: &AtomicUsize,
    ) -> Result<Fetched, FetchError> {
        let FetchSettings { max_bytes, max_total_bytes, .. } = self.settings;
        if response.content_length().is_some_and(|length| length > max_bytes as u64) {
            return Err(FetchError::TooLarge(max_bytes));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| FetchError::Unreachable)? {
            if bytes.len() + chunk.len() > max_bytes {
                return Err(FetchError::TooLarge(max_bytes));
            }
            let take = |left: usize| left.checked_sub(chunk.len());
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .map_err(|_| FetchError::AllTooLarge(max_total_bytes))?;
            bytes.extend_from_slice(&chunk);
            if bytes.len() >= HEAD_BYTES {
                media_type(self.kind, &bytes)?;
            }
        }
        let media_type = media_type(self.kind, &bytes)?;
        Ok(Fetched { media_type, data: STANDARD.encode(&bytes) })
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

fn failure(error: &reqwest::Error) -> FetchError {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<NotPublic>() {
            return FetchError::Refused;
        }
        source = cause.source();
    }
    FetchError::Unreachable
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
