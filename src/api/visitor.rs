//! Who is at the door: the key that a request shows, and the address that it comes from.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, FromRef, FromRequestParts},
    http::{HeaderMap, request::Parts},
};

use super::{error::ApiError, headers::secret};
use crate::{
    gateway::Gateway,
    ledger::{book::AccessError, tenant::Tenant},
};

/// A caller whose key has been looked at. Handlers take it before they read a body, and answer a
/// refusal in the shape of their surface.
pub struct Visitor(Result<Option<Arc<Tenant>>, AccessError>);

impl Visitor {
    /// The key's tenant; `None` when the gateway is open to everybody.
    pub fn admitted(self) -> Result<Option<Arc<Tenant>>, ApiError> {
        Ok(self.0?)
    }
}

impl<S> FromRequestParts<S> for Visitor
where
    S: Send + Sync,
    Arc<Gateway>: FromRef<S>,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let gateway = Arc::<Gateway>::from_ref(state);
        let Some(ledger) = gateway.ledger() else { return Ok(Self(Ok(None))) };
        let address = address(parts, gateway.config().server.trusted_proxies.as_slice());
        let found = match secret(&parts.headers) {
            Some(secret)
                if ledger.has_keys() || secret.starts_with(crate::ledger::secret::PREFIX) =>
            {
                ledger.authenticate(secret, address).await.map(Some)
            }
            None if ledger.has_keys() => Err(AccessError::Missing),
            // An open gateway does not mind what SDKs send for want of a key.
            Some(_) | None => Ok(None),
        };
        if let Err(error) = &found {
            tracing::info!(%error, address = address.map(tracing::field::display), "not admitted");
        }
        Ok(Self(found))
    }
}

/// The caller's address: the connection's, or what a trusted proxy says (the last address of
/// `x-forwarded-for` that is not such a proxy's).
pub(super) fn address(parts: &Parts, trusted: &[ipnet::IpNet]) -> Option<IpAddr> {
    let ConnectInfo(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
    let is_trusted =
        |address: &IpAddr| trusted.iter().any(|network| network.contains(&address.to_canonical()));
    Some(behind_proxies(peer.ip(), &parts.headers, is_trusted))
}

/// Whether the caller spoke TLS to a trusted proxy, which says so in `x-forwarded-proto`.
pub(super) fn came_encrypted(parts: &Parts, trusted: &[ipnet::IpNet]) -> bool {
    let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() else {
        return false;
    };
    let is_trusted = trusted.iter().any(|network| network.contains(&peer.ip().to_canonical()));
    let said = parts.headers.get_all("x-forwarded-proto").iter().next_back();
    let said = said.and_then(|line| line.to_str().ok()?.rsplit(',').next());
    is_trusted && said.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"))
}

fn behind_proxies(
    peer: IpAddr,
    headers: &HeaderMap,
    is_trusted: impl Fn(&IpAddr) -> bool,
) -> IpAddr {
    let mut nearest = peer;
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let named = lines.iter().rev().filter_map(|line| line.to_str().ok());
    for name in named.flat_map(|line| line.rsplit(',')) {
        if !is_trusted(&nearest) {
            break;
        }
        match name.trim().parse() {
            Ok(address) => nearest = address,
            Err(_) => break,
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let is_trusted = |address: &IpAddr| address.to_string().starts_with("10.");
        let seen = |peer: &str, forwarded: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", HeaderValue::from_static(forwarded));
            behind_proxies(peer.parse().unwrap(), &headers, is_trusted).to_string()
        };
        assert_eq!(seen("8.8.8.8", "1.1.1.1"), "8.8.8.8", "a caller may write what it likes");
        assert_eq!(seen("10.0.0.1", "1.1.1.1"), "1.1.1.1");
        assert_eq!(seen("10.0.0.1", "9.9.9.9, 1.1.1.1, 10.0.0.2"), "1.1.1.1");
        assert_eq!(seen("10.0.0.1", "nonsense"), "10.0.0.1");
    }
}
