//! Who may use the admin API: a token in `Authorization: Bearer …`, and nothing else.
//!
//! Handlers take [`Viewer`] to read and [`Master`] to change, as their first argument, so that
//! nothing of a stranger's request is looked at. Wrong tokens are counted by address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{extract::FromRequestParts, http::request::Parts};

use super::{Desk, error::AdminError};
use crate::api::{headers::bearer, visitor::address};

/// Wrong tokens from an address in [`WINDOW`], after which it is not listened to (chosen: a
/// person's slips, and no way to try tokens).
const MAX_FAILURES: u32 = 10;
/// The time over which they are counted, from the first.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose failures are remembered (chosen: under 100 KB). Beyond it the oldest is
/// forgotten.
const MAX_ADDRESSES: usize = 1_024;

/// A caller who may read.
pub(super) struct Viewer;

/// A caller who may change things.
pub(super) struct Master;

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Change,
}

impl FromRequestParts<Desk> for Viewer {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, AdminError> {
        admit(parts, desk).map(|_| Self)
    }
}

impl FromRequestParts<Desk> for Master {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, AdminError> {
        match admit(parts, desk)? {
            Access::Change => Ok(Self),
            Access::Read => Err(AdminError::ReadOnly),
        }
    }
}

/// What the request's token opens, by the configuration in force.
fn admit(parts: &Parts, desk: &Desk) -> Result<Access, AdminError> {
    let gateway = desk.gateway();
    let address = address(parts, gateway.config().server.trusted_proxies.as_slice());
    let now = Instant::now();
    // Who has failed too often is not listened to even with the right token: it would say so.
    if let Some(wait) = desk.logins.blocked_for(address, now) {
        return Err(AdminError::TooManyFailures(wait));
    }
    let shown = bearer(&parts.headers).ok_or(AdminError::NoToken)?;
    let admin = gateway.config().admin.as_ref();
    let opens = |token: Option<&crate::config::Token>| token.is_some_and(|token| token.is(shown));
    if opens(admin.and_then(|admin| admin.master.as_ref())) {
        return Ok(Access::Change);
    }
    if opens(admin.and_then(|admin| admin.viewer.as_ref())) {
        return Ok(Access::Read);
    }
    desk.logins.failed(address, now);
    tracing::warn!(address = address.map(tracing::field::display), "a wrong admin token");
    Err(AdminError::WrongToken)
}

/// Failures by address. An address that nobody knows counts as one address.
#[derive(Debug, Default)]
pub(super) struct Logins(Mutex<HashMap<Option<IpAddr>, Failures>>);

#[derive(Debug, Clone, Copy)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Logins {
    /// How long the address is not listened to; `None` when it is.
    fn blocked_for(&self, address: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = table.get(&address.map(network))?;
        let left = WINDOW.checked_sub(now.saturating_duration_since(failures.since))?;
        (failures.count >= MAX_FAILURES && !left.is_zero()).then_some(left)
    }

    fn failed(&self, address: Option<IpAddr>, now: Instant) {
        let address = address.map(network);
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |failures: &Failures| now.saturating_duration_since(failures.since) >= WINDOW;
        if table.len() >= MAX_ADDRESSES && !table.contains_key(&address) {
            table.retain(|_, failures| !is_over(failures));
            let oldest = table.iter().min_by_key(|(_, failures)| failures.since);
            if let Some((&oldest, _)) = oldest
                && table.len() >= MAX_ADDRESSES
            {
                table.remove(&oldest);
            }
        }
        let failures = table.entry(address).or_insert(Failures { since: now, count: 0 });
        if is_over(failures) {
            *failures = Failures { since: now, count: 0 };
        }
        failures.count += 1;
    }
}

/// What counts as one address: of IPv6 the /64 network, all of which one subscriber has (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_left_waiting_after_ten_failures_in_a_minute() {
        let logins = Logins::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let bad: Option<IpAddr> = "2001:db8::1".parse().ok();
        for second in 0..10 {
            assert_eq!(logins.blocked_for(bad, at(second)), None);
            logins.failed(bad, at(second));
        }
        assert_eq!(logins.blocked_for(bad, at(15)), Some(Duration::from_secs(45)));
        let same_network = "2001:db8::ffff".parse().ok();
        assert_eq!(logins.blocked_for(same_network, at(15)), Some(Duration::from_secs(45)));
        assert_eq!(logins.blocked_for("2001:db8:0:1::1".parse().ok(), at(15)), None);
        assert_eq!(logins.blocked_for(bad, at(60)), None);
        logins.failed(bad, at(61));
        assert_eq!(logins.blocked_for(bad, at(61)), None, "the count begins anew");
    }

    #[test]
    fn the_table_of_failures_stays_bounded() {
        let logins = Logins::default();
        let start = Instant::now();
        for number in 0..3 * MAX_ADDRESSES as u32 {
            let address = IpAddr::from(number.to_be_bytes());
            logins.failed(Some(address), start + Duration::from_millis(number.into()));
        }
        assert_eq!(logins.0.lock().unwrap().len(), MAX_ADDRESSES);
    }
}
