//! All keys, found by their hash.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use super::{
    secret,
    tenant::{Group, Key, Level, Named, Tenant},
};

/// The keys and groups of one moment.
#[derive(Debug, Default)]
pub struct Book {
    /// By hash; a rotated key has two.
    by_hash: HashMap<Vec<u8>, Entry>,
    /// Keys that are neither revoked nor expired at the moment of the book.
    live: usize,
}

#[derive(Debug)]
struct Entry {
    tenant: Arc<Tenant>,
    /// Until when a hash from before a rotation is accepted.
    until_ms: Option<i64>,
}

/// Why a key opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The request carries none.
    #[error("an API key is needed: send it as `Authorization: Bearer wb-…` or `x-api-key`")]
    Missing,
    /// No key has this secret.
    #[error("the API key is not known")]
    Unknown,
    /// It was revoked, or rotated and its grace time is over.
    #[error("the API key has been revoked")]
    Revoked,
    /// Its time is over.
    #[error("the API key has expired")]
    Expired,
    /// It may not be used from the caller's address.
    #[error("the API key may not be used from this address")]
    Address,
}

impl Book {
    /// Of all keys and groups.
    pub fn new(keys: Vec<Key>, groups: &[Group], now_ms: i64) -> Self {
        let groups: HashMap<&str, &Group> = groups.iter().map(|g| (g.id.as_str(), g)).collect();
        let mut book = Self::default();
        for mut key in keys {
            let gone = key.revoked_ms.is_some() || key.expires_ms.is_some_and(|at| at <= now_ms);
            book.live += usize::from(!gone);
            let (hash, previous) = (std::mem::take(&mut key.hash), key.previous.take());
            let tenant = Arc::new(tenant(key, &groups));
            if let Some((hash, until_ms)) = previous {
                let entry = Entry { tenant: Arc::clone(&tenant), until_ms: Some(until_ms) };
                book.by_hash.insert(hash, entry);
            }
            book.by_hash.insert(hash, Entry { tenant, until_ms: None });
        }
        book
    }

    /// Whether callers must show a key.
    pub fn has_live_keys(&self) -> bool {
        self.live > 0
    }

    /// The caller with a secret of this hash. The table is searched by a keyed hash, whose
    /// collisions nobody can steer, so the time it takes says nothing of a secret.
    pub fn find(
        &self,
        hash: &[u8; 32],
        address: Option<IpAddr>,
        now_ms: i64,
    ) -> Result<Arc<Tenant>, AccessError> {
        let (known, entry) =
            self.by_hash.get_key_value(hash.as_slice()).ok_or(AccessError::Unknown)?;
        if !secret::same(known, hash) {
            return Err(AccessError::Unknown);
        }
        let key = &entry.tenant.key;
        if key.revoked_ms.is_some() || entry.until_ms.is_some_and(|until| until <= now_ms) {
            return Err(AccessError::Revoked);
        }
        if key.expires_ms.is_some_and(|at| at <= now_ms) {
            return Err(AccessError::Expired);
        }
        // A caller whose address nobody knows is let in only where addresses do not matter.
        let allowed = match address {
            Some(address) => key.restrictions.allows_address(address),
            None => key.restrictions.networks.is_empty(),
        };
        if allowed { Ok(Arc::clone(&entry.tenant)) } else { Err(AccessError::Address) }
    }
}

/// A key with the groups above it. A group that is not there, or that belongs to itself, ends the
/// chain.
fn tenant(key: Key, groups: &HashMap<&str, &Group>) -> Tenant {
    let (mut project, mut team, mut organisation) = (None, None, None);
    let mut next = key.group.as_deref();
    for _ in Level::ALL {
        let Some(group) = next.and_then(|id| groups.get(id)) else { break };
        let named = Some(Named { id: group.id.clone(), name: group.name.clone() });
        match group.level {
            Level::Project => project = named,
            Level::Team => team = named,
            Level::Organisation => organisation = named,
            Level::Key | Level::Model => {}
        }
        next = group.parent.as_deref();
    }
    Tenant { key, project, team, organisation }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tenant::{Origin, Restrictions};

    fn key(id: &str, hash: u8) -> Key {
        Key {
            id: id.to_owned(),
            name: id.to_owned(),
            prefix: "wb-abcdef".to_owned(),
            hash: vec![hash; 32],
            previous: None,
            group: None,
            created_ms: 0,
            expires_ms: None,
            revoked_ms: None,
            restrictions: Restrictions::default(),
            origin: Origin::Admin,
        }
    }

    #[test]
    fn a_key_opens_while_it_is_valid_and_from_where_it_may_be_used() {
        let rotated = Key { previous: Some((vec![9; 32], 50)), ..key("rotated", 2) };
        let bound = Restrictions {
            networks: vec!["10.0.0.0/8".parse().unwrap()],
            ..Restrictions::default()
        };
        let keys = vec![
            key("plain", 1),
            rotated,
            Key { revoked_ms: Some(1), ..key("revoked", 3) },
            Key { expires_ms: Some(100), ..key("expiring", 4) },
            Key { restrictions: bound, ..key("bound", 5) },
        ];
        let book = Book::new(keys, &[], 10);
        let find = |hash: u8, address: &str, now_ms| {
            let address = address.parse().ok();
            book.find(&[hash; 32], address, now_ms).map(|tenant| tenant.key.id.clone())
        };
        let id = |id: &str| Ok(id.to_owned());
        assert_eq!(find(1, "10.0.0.1", 10), id("plain"));
        assert_eq!(find(9, "10.0.0.1", 49), id("rotated"), "the old secret in its grace time");
        assert_eq!(find(9, "10.0.0.1", 50), Err(AccessError::Revoked));
        assert_eq!(find(2, "10.0.0.1", 50), id("rotated"));
        assert_eq!(find(3, "10.0.0.1", 10), Err(AccessError::Revoked));
        assert_eq!(find(4, "10.0.0.1", 99), id("expiring"));
        assert_eq!(find(4, "10.0.0.1", 100), Err(AccessError::Expired));
        assert_eq!(find(5, "10.0.0.1", 10), id("bound"));
        assert_eq!(find(5, "11.0.0.1", 10), Err(AccessError::Address));
        assert_eq!(find(5, "no address", 10), Err(AccessError::Address));
        assert_eq!(find(7, "10.0.0.1", 10), Err(AccessError::Unknown));
    }

    #[test]
    fn a_key_belongs_to_all_groups_above_it_and_a_ring_of_groups_ends() {
        let group = |id: &str, level, parent: Option<&str>| Group {
            id: id.to_owned(),
            level,
            name: id.to_uppercase(),
            parent: parent.map(str::to_owned),
            created_ms: 0,
            origin: Origin::Admin,
        };
        let groups = [
            group("p", Level::Project, Some("t")),
            group("t", Level::Team, Some("o")),
            group("o", Level::Organisation, Some("p")),
        ];
        let book = Book::new(vec![Key { group: Some("p".to_owned()), ..key("k", 1) }], &groups, 0);
        let tenant = book.find(&[1; 32], None, 0).unwrap();
        let scopes: Vec<_> = tenant.scopes().iter().map(ToString::to_string).collect();
        assert_eq!(scopes, ["organisation:o", "team:t", "project:p", "key:k"]);
        assert_eq!(tenant.team.as_ref().map(|team| team.name.as_str()), Some("T"));
    }
}
