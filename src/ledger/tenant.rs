//! Who asks: organisation → team → project → key, all optional but the key.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::secret::Minted;

/// A new id, like `key_0192…`: it sorts by the time when it was made.
pub fn new_id(kind: &str) -> String {
    format!("{kind}_{}", uuid::Uuid::now_v7().simple())
}

/// Reads `10.0.0.0/8`, or a single address.
pub fn network(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(address)
}

/// What a budget or a limit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Everything that one organisation's teams, projects and keys do.
    Organisation,
    /// One team.
    Team,
    /// One project.
    Project,
    /// One key.
    Key,
    /// One configured model, whoever asks.
    Model,
}

impl Level {
    /// Every level, from the top.
    pub const ALL: [Self; 5] =
        [Self::Organisation, Self::Team, Self::Project, Self::Key, Self::Model];
    /// Their names, in the order of [`Self::ALL`].
    pub const NAMES: [&str; 5] = ["organisation", "team", "project", "key", "model"];

    /// The spelling in flags, JSON and the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Team => "team",
            Self::Project => "project",
            Self::Key => "key",
            Self::Model => "model",
        }
    }

    /// The level with this spelling.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// One organisation, team, project, key or model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// What kind of thing.
    pub level: Level,
    /// Its id; of a model its configured name.
    pub id: String,
}

/// `team:team_0192…`
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level.name(), self.id)
    }
}

/// Who made a record, and whether the configuration file owns it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The command line or the admin API: it stays until somebody removes it.
    #[default]
    Admin,
    /// The configuration file: reconciled at start and reload.
    Configuration,
}

/// An organisation, a team or a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// `org_…`, `team_…`, `project_…`
    pub id: String,
    /// `organisation`, `team` or `project`; never another level.
    pub level: Level,
    /// Unique within its level.
    pub name: String,
    /// The id of the group that it belongs to: a team's organisation, a project's team or
    /// organisation. `None` for an organisation, and for one that stands alone.
    pub parent: Option<String>,
    /// When it was made, milliseconds since 1970.
    pub created_ms: i64,
    /// Who owns the record.
    #[serde(default)]
    pub origin: Origin,
}

impl Group {
    /// A group with a new id.
    pub fn new(level: Level, name: String, parent: Option<String>, now_ms: i64) -> Self {
        let kind = if level == Level::Organisation { "org" } else { level.name() };
        Self { id: new_id(kind), level, name, parent, created_ms: now_ms, origin: Origin::Admin }
    }
}

/// A key as it is stored: everything but the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// `key_…`
    pub id: String,
    /// What people call it; unique among keys that are not revoked.
    pub name: String,
    /// The secret's beginning, enough to tell keys apart: `wb-` and six characters.
    pub prefix: String,
    /// Keyed hash of the secret, 32 bytes. Never shown.
    #[serde(skip)]
    pub hash: Vec<u8>,
    /// The hash before the last rotation, and until when it is still accepted (milliseconds since
    /// 1970).
    #[serde(skip)]
    pub previous: Option<(Vec<u8>, i64)>,
    /// The group that it belongs to.
    pub group: Option<String>,
    /// When it was made, milliseconds since 1970.
    pub created_ms: i64,
    /// From when on it is refused; `None`: never.
    pub expires_ms: Option<i64>,
    /// Since when it is refused; `None`: it is not revoked.
    pub revoked_ms: Option<i64>,
    /// What it may be used for.
    #[serde(default)]
    pub restrictions: Restrictions,
    /// Who owns the record.
    #[serde(default)]
    pub origin: Origin,
}

impl Key {
    /// A key with a new id, which belongs to nothing and may be used for everything.
    pub fn new(name: String, minted: &Minted, now_ms: i64) -> Self {
        Self {
            id: new_id(Level::Key.name()),
            name,
            prefix: minted.prefix.clone(),
            hash: minted.hash.to_vec(),
            previous: None,
            group: None,
            created_ms: now_ms,
            expires_ms: None,
            revoked_ms: None,
            restrictions: Restrictions::default(),
            origin: Origin::Admin,
        }
    }

    /// Gives it another secret. The one before is accepted for the grace time.
    pub fn rotate(&mut self, minted: &Minted, now_ms: i64, grace_ms: i64) {
        let before = std::mem::replace(&mut self.hash, minted.hash.to_vec());
        self.previous = (grace_ms > 0).then_some((before, now_ms.saturating_add(grace_ms)));
        self.prefix.clone_from(&minted.prefix);
    }
}

/// Longest grace time of an old secret, in seconds: 30 days.
pub const MAX_GRACE_S: i64 = 30 * 24 * 60 * 60;
/// The grace time when nobody says one, in seconds: a day.
pub const DEFAULT_GRACE_S: i64 = 24 * 60 * 60;

/// What a key may be used for. An empty list restricts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Restrictions {
    /// Policies that may be named; then models are named only as `models` lists them.
    pub policies: Vec<String>,
    /// Models that may serve: named by the caller or chosen by a policy.
    pub models: Vec<String>,
    /// Tiers that may serve; then only their models may be named.
    pub tiers: Vec<String>,
    /// Addresses that callers may come from.
    pub networks: Vec<IpNet>,
    /// Name of the guard set that applies; `None`: the gateway's own.
    pub guard: Option<String>,
    /// Whether answers may come from the cache; `None`: as the gateway is set.
    pub cache: Option<bool>,
}

impl Restrictions {
    /// Whether the caller's address is allowed.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whether the policy may be named.
    pub fn allows_policy(&self, policy: &str) -> bool {
        allows(&self.policies, policy)
    }

    /// Whether the model may serve.
    pub fn allows_model(&self, model: &str) -> bool {
        allows(&self.models, model)
    }

    /// Whether the tier may serve.
    pub fn allows_tier(&self, tier: &str) -> bool {
        allows(&self.tiers, tier)
    }
}

fn allows(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|allowed| allowed == name)
}

/// A key with the groups above it: the caller of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// The key.
    pub key: Key,
    /// The project that the key belongs to, if it does.
    pub project: Option<Named>,
    /// The team above it.
    pub team: Option<Named>,
    /// The organisation above that.
    pub organisation: Option<Named>,
}

/// A group's id and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

impl Tenant {
    /// What people call the key, or the group above it, that this scope is.
    pub fn name_of(&self, scope: &Scope) -> Option<&str> {
        let group = match scope.level {
            Level::Organisation => &self.organisation,
            Level::Team => &self.team,
            Level::Project => &self.project,
            Level::Key => return (self.key.id == scope.id).then_some(&self.key.name),
            Level::Model => return None,
        };
        group.as_ref().filter(|group| group.id == scope.id).map(|group| group.name.as_str())
    }

    /// The key's scope and those above it.
    pub fn scopes(&self) -> Vec<Scope> {
        let groups = [
            (Level::Organisation, &self.organisation),
            (Level::Team, &self.team),
            (Level::Project, &self.project),
        ];
        let groups = groups.into_iter().filter_map(|(level, group)| {
            group.as_ref().map(|group| Scope { level, id: group.id.clone() })
        });
        groups.chain([Scope { level: Level::Key, id: self.key.id.clone() }]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_restricts_nothing_and_a_network_knows_mapped_addresses() {
        let free = Restrictions::default();
        assert!(free.allows_model("m") && free.allows_address("8.8.8.8".parse().unwrap()));
        let bound = Restrictions {
            models: vec!["small".to_owned()],
            networks: vec!["10.0.0.0/8".parse().unwrap()],
            ..Restrictions::default()
        };
        assert!(bound.allows_model("small") && !bound.allows_model("large"));
        for (address, expected) in
            [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("11.0.0.1", false), ("::1", false)]
        {
            assert_eq!(bound.allows_address(address.parse().unwrap()), expected, "{address}");
        }
    }
}
