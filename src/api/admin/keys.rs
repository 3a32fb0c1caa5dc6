//! `/admin/keys`: who may call the gateway.

use axum::{Json, extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Desk,
    access::{Master, Viewer},
    enforce,
    error::{AdminError, Asking, Changing, created},
    key_budgets::KeyBudget,
    read::{Id, Moment, Sent, Whole, checked_name, present},
    restrictions::{RestrictionsView, restrictions},
};
use crate::ledger::{
    Ledger, now_ms, secret,
    store::Actor,
    tenant::{DEFAULT_GRACE_S, Key, MAX_GRACE_S, Origin},
};

/// A key, without its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyView {
    /// `key_…`
    id: String,
    /// What people call it; unique among keys that are not revoked.
    name: String,
    /// The secret's beginning, enough to tell keys apart.
    prefix: String,
    /// Whether it opens anything now.
    state: KeyState,
    /// The id of the project, team or organisation that it belongs to.
    group: Option<String>,
    created_at: Moment,
    /// From when on it is refused; null: never.
    expires_at: Option<Moment>,
    /// Since when it is refused; null: it is not revoked.
    revoked_at: Option<Moment>,
    /// Until when the secret before the last rotation is accepted.
    previous_secret_until: Option<Moment>,
    restrictions: RestrictionsView,
    origin: OriginView,
}

/// Whether a key opens anything.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeyState {
    Active,
    Expired,
    Revoked,
}

/// Who owns a record: the configuration file, or whoever made it here or on the command line.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OriginView {
    Admin,
    Configuration,
}

impl From<Origin> for OriginView {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Admin => Self::Admin,
            Origin::Configuration => Self::Configuration,
        }
    }
}

/// All keys.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyList {
    /// Oldest first, revoked ones too.
    data: Vec<KeyView>,
}

/// A key and its secret, which is shown here and never again.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyWithSecret {
    #[serde(flatten)]
    key: KeyView,
    /// What callers send as `Authorization: Bearer …` or `x-api-key`.
    secret: String,
}

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    #[schema(min_length = 1, max_length = 100, pattern = "^[^\\u0000-\\u001f\\u007f]+$")]
    name: String,
    /// The id of the project, team or organisation that it belongs to.
    group: Option<String>,
    /// From when on it is refused; null: never.
    expires_at: Option<Moment>,
    #[serde(default)]
    restrictions: RestrictionsView,
    /// What it may spend, from its first request on.
    #[serde(default)]
    #[schema(max_items = 20)]
    budgets: Vec<KeyBudget>,
}

/// A key that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct NewKeyView {
    #[serde(flatten)]
    key: KeyWithSecret,
    /// The ids of the budgets and limits that were made with it.
    budgets: Vec<String>,
}

/// Most budgets and limits that are made with a key (chosen: more than there are units).
const MAX_BUDGETS: usize = 20;

/// What is to change. What is not named stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyChange {
    #[serde(default, deserialize_with = "present")]
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 100,
        pattern = "^[^\\u0000-\\u001f\\u007f]+$"
    )]
    name: Option<String>,
    /// null: none.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    group: Option<Option<String>>,
    /// null: never.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Moment>)]
    expires_at: Option<Option<Moment>>,
    /// All of them: what is not named here restricts nothing.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    restrictions: Option<RestrictionsView>,
}

/// How a key is given another secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// How many seconds the old secret is still accepted; 0: it is refused at once.
    #[serde(default = "default_grace")]
    #[schema(value_type = u32, maximum = 2592000, default = 86400)]
    grace_s: Whole,
}

fn default_grace() -> Whole {
    Whole(DEFAULT_GRACE_S)
}

/// Lists every key.
#[utoipa::path(
    get, operation_id = "list_keys", path = "/admin/keys", tag = "keys",
    responses((status = 200, body = KeyList), Asking)
)]
pub(super) async fn list(_: Viewer, State(desk): State<Desk>) -> Result<Json<KeyList>, AdminError> {
    let keys = desk.ledger()?.store().keys().await?;
    Ok(Json(KeyList { data: keys.into_iter().map(KeyView::from).collect() }))
}

/// Makes a key, with its budgets or not at all. Its secret is in this answer and nowhere else.
#[utoipa::path(
    post, operation_id = "create_key", path = "/admin/keys", tag = "keys", request_body = NewKey,
    responses((status = 201, body = NewKeyView), Changing)
)]
pub(super) async fn create(
    master: Master,
    State(desk): State<Desk>,
    Sent(new): Sent<NewKey>,
) -> Result<Response, AdminError> {
    let ledger = desk.ledger()?;
    let minted = secret::mint(ledger.hash_key())?;
    let key = Key {
        group: new.group,
        expires_ms: new.expires_at.map(in_future).transpose()?,
        restrictions: restrictions(new.restrictions, desk.gateway().config())?,
        ..Key::new(checked_name(new.name)?, &minted, now_ms())
    };
    if new.budgets.len() > MAX_BUDGETS {
        let message = format!("write at most {MAX_BUDGETS} of them");
        return Err(AdminError::Value { param: "budgets", message });
    }
    let of_key = |budget: KeyBudget| budget.of_key(&key.id, desk.gateway().config());
    let budgets = new.budgets.into_iter().map(of_key).collect::<Result<Vec<_>, _>>()?;
    let made = ledger.store().create_key_with(&master.actor(), &key, &budgets).await;
    made.map_err(|error| AdminError::of_change(error, &key.id, "group"))?;
    enforce(&ledger).await?;
    let key = KeyWithSecret { key: key.into(), secret: minted.secret };
    let budgets = budgets.into_iter().map(|budget| budget.id).collect();
    Ok(created(NewKeyView { key, budgets }))
}

/// Shows a key.
#[utoipa::path(
    get, operation_id = "show_key", path = "/admin/keys/{id}", tag = "keys",
    params(("id" = String, Path)), responses((status = 200, body = KeyView), Asking)
)]
pub(super) async fn show(
    _: Viewer,
    State(desk): State<Desk>,
    Id(id): Id,
) -> Result<Json<KeyView>, AdminError> {
    let keys = desk.ledger()?.store().keys().await?;
    match keys.into_iter().find(|key| key.id == id) {
        Some(key) => Ok(Json(key.into())),
        None => Err(AdminError::Missing { kind: "key", id }),
    }
}

/// Changes a key.
#[utoipa::path(
    patch, operation_id = "change_key", path = "/admin/keys/{id}", tag = "keys",
    request_body = KeyChange, params(("id" = String, Path)),
    responses((status = 200, body = KeyView), Changing)
)]
pub(super) async fn change(
    master: Master,
    State(desk): State<Desk>,
    Id(id): Id,
    Sent(change): Sent<KeyChange>,
) -> Result<Json<KeyView>, AdminError> {
    let name = change.name.map(checked_name).transpose()?;
    let expires_ms = change.expires_at.map(|at| at.map(in_future).transpose()).transpose()?;
    let given = |given| restrictions(given, desk.gateway().config());
    let restrictions = change.restrictions.map(given).transpose()?;
    let ledger = desk.ledger()?;
    let key = update(&ledger, master.actor(), &id, |key| {
        if let Some(name) = name {
            key.name = name;
        }
        if let Some(group) = change.group {
            key.group = group;
        }
        if let Some(expires_ms) = expires_ms {
            key.expires_ms = expires_ms;
        }
        if let Some(restrictions) = restrictions {
            key.restrictions = restrictions;
        }
    });
    Ok(Json(key.await?.into()))
}

/// Gives a key another secret, which is in this answer and nowhere else.
#[utoipa::path(
    post, operation_id = "rotate_key", path = "/admin/keys/{id}/rotate", tag = "keys",
    request_body = Rotation, params(("id" = String, Path)),
    responses((status = 200, body = KeyWithSecret), Changing)
)]
pub(super) async fn rotate(
    master: Master,
    State(desk): State<Desk>,
    Id(id): Id,
    Sent(rotation): Sent<Rotation>,
) -> Result<Json<KeyWithSecret>, AdminError> {
    let Whole(grace_s) = rotation.grace_s;
    if !(0..=MAX_GRACE_S).contains(&grace_s) {
        let message = format!("`{grace_s}` is out of range; write 0 to {MAX_GRACE_S} (30 days)");
        return Err(AdminError::Value { param: "grace_s", message });
    }
    let ledger = desk.ledger()?;
    let minted = secret::mint(ledger.hash_key())?;
    let rotate = |key: &mut Key| key.rotate(&minted, now_ms(), grace_s * 1_000);
    let key = update(&ledger, master.actor(), &id, rotate);
    Ok(Json(KeyWithSecret { key: key.await?.into(), secret: minted.secret }))
}

/// Revokes a key for ever. What it spent stays in the ledger.
#[utoipa::path(
    delete, operation_id = "revoke_key", path = "/admin/keys/{id}", tag = "keys",
    params(("id" = String, Path)), responses((status = 200, body = KeyView), Changing)
)]
pub(super) async fn revoke(
    master: Master,
    State(desk): State<Desk>,
    Id(id): Id,
) -> Result<Json<KeyView>, AdminError> {
    let ledger = desk.ledger()?;
    let key = update(&ledger, master.actor(), &id, |key| key.revoked_ms = Some(now_ms()));
    Ok(Json(key.await?.into()))
}

/// Changes a key that may be changed here, and brings it into force.
async fn update(
    ledger: &Ledger,
    by: Actor,
    id: &str,
    change: impl FnOnce(&mut Key),
) -> Result<Key, AdminError> {
    let mut refused = None;
    let key = ledger.store().update_key(&by, id, |key| {
        refused = match key {
            Key { origin: Origin::Configuration, .. } => {
                Some(AdminError::OwnedByConfiguration { kind: "key", id: id.to_owned() })
            }
            Key { revoked_ms: Some(_), .. } => {
                let message = format!("key `{id}` is revoked for ever: make another");
                Some(AdminError::Conflict { param: None, message })
            }
            key => {
                change(key);
                None
            }
        };
    });
    let key = key.await.map_err(|error| AdminError::of_change(error, id, "group"))?;
    match refused {
        Some(refusal) => Err(refusal),
        None => enforce(ledger).await.map(|()| key),
    }
}

impl From<Key> for KeyView {
    fn from(key: Key) -> Self {
        let now = now_ms();
        let state = match &key {
            Key { revoked_ms: Some(_), .. } => KeyState::Revoked,
            Key { expires_ms: Some(at), .. } if *at <= now => KeyState::Expired,
            _ => KeyState::Active,
        };
        let previous = key.previous.map(|(_, until_ms)| until_ms);
        Self {
            id: key.id,
            name: key.name,
            prefix: key.prefix,
            state,
            group: key.group,
            created_at: Moment(key.created_ms),
            expires_at: key.expires_ms.map(Moment),
            revoked_at: key.revoked_ms.map(Moment),
            previous_secret_until: previous.filter(|until_ms| *until_ms > now).map(Moment),
            restrictions: key.restrictions.into(),
            origin: key.origin.into(),
        }
    }
}

fn in_future(at: Moment) -> Result<i64, AdminError> {
    if at.0 > now_ms() {
        return Ok(at.0);
    }
    let message = "is in the past; name a later time, or revoke the key".to_owned();
    Err(AdminError::Value { param: "expires_at", message })
}
