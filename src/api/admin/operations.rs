//! Health, the configuration in force and its reload, and the audit log.

use axum::{Json, extract::State, http::Uri};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    Desk,
    access::{Master, Viewer},
    error::{AdminError, Asking, Changing, Problem},
    read::{Moment, Parameters},
};
use crate::{
    config::{Config, Origins},
    ledger::store::AuditEntry,
    policy::{ModelCard, Policy},
    upstream::Provider,
};

/// Changes in one answer, unless the caller says how many.
const AUDIT_LIMIT: u32 = 100;
/// Most changes in one answer.
const MAX_AUDIT_LIMIT: i64 = 1_000;

/// The process is up.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`
    status: &'static str,
}

/// Whether the process is up. Needs no token.
#[utoipa::path(
    get, path = "/health", tag = "operations", security(()),
    responses((status = 200, body = Health))
)]
pub(super) async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// The configuration in force, without its secrets.
#[derive(Serialize, ToSchema)]
pub(super) struct ConfigView {
    /// The file that it was read from; null when it came from the environment.
    file: Option<String>,
    /// Why the file as it now is is not in force.
    problem: Option<String>,
    /// Settings that the file says otherwise and only a restart brings into force.
    restart_needed: Vec<String>,
    policies: Vec<PolicyView>,
    models: Vec<ModelView>,
    providers: Vec<ProviderView>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct PolicyView {
    name: String,
    /// Where requests without a score go.
    default_tier: String,
    /// From the cheapest.
    tiers: Vec<TierView>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct TierView {
    name: String,
    /// Requests that score below this belong here; null on the last tier.
    below: Option<f32>,
    /// In order of preference.
    models: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ModelView {
    name: String,
    provider: String,
    /// What the provider calls it.
    upstream_name: String,
    /// Where its price comes from: `configuration`, `local catalogue`, `catalogue` or `unknown`.
    price_from: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ProviderView {
    name: String,
    dialect: String,
    /// Of its deployments, without user, password and parameters.
    base_urls: Vec<String>,
}

/// Shows the configuration in force, without its secrets.
#[utoipa::path(
    get, path = "/admin/config", tag = "operations",
    responses((status = 200, body = ConfigView), Asking)
)]
pub(super) async fn config(
    _: Viewer,
    State(desk): State<Desk>,
) -> Result<Json<ConfigView>, AdminError> {
    let gateway = desk.gateway();
    let config: &Config = gateway.config();
    let models = config.models.iter().enumerate();
    Ok(Json(ConfigView {
        file: desk.house.file().map(|file| file.display().to_string()),
        problem: desk.house.problem(),
        restart_needed: desk.house.restart_needed().into_iter().map(str::to_owned).collect(),
        policies: config.policies.iter().map(|one| policy(one, &config.models)).collect(),
        models: models.map(|(at, card)| model(card, config.origins.get(at))).collect(),
        providers: config.providers.iter().map(provider).collect(),
    }))
}

fn policy(policy: &Policy, models: &[ModelCard]) -> PolicyView {
    let name = |index: &usize| models.get(*index).map(|card| card.name.clone());
    let tiers = policy.tiers().iter().map(|tier| TierView {
        name: tier.name.clone(),
        below: tier.below.map(|below| below.get()),
        models: tier.models.iter().filter_map(name).collect(),
    });
    PolicyView {
        name: policy.name().to_owned(),
        default_tier: policy.default_tier().name.clone(),
        tiers: tiers.collect(),
    }
}

fn model(card: &ModelCard, origins: Option<&Origins>) -> ModelView {
    ModelView {
        name: card.name.clone(),
        provider: card.provider.clone(),
        upstream_name: card.upstream_name.clone(),
        price_from: origins.map(|origins| origins.price.label().to_owned()),
    }
}

fn provider(provider: &Provider) -> ProviderView {
    let base_urls = provider.deployments.iter().map(|deployment| {
        let url = &deployment.base_url;
        // Userinfo, parameters and fragment may hold secrets.
        format!("{}{}", url.origin().ascii_serialization(), url.path())
    });
    ProviderView {
        name: provider.name.clone(),
        dialect: provider.api.name().to_owned(),
        base_urls: base_urls.collect(),
    }
}

/// What a reload has done.
#[derive(Serialize, ToSchema)]
pub(super) struct ReloadedView {
    /// What is worth a warning about the file.
    warnings: Vec<Problem>,
    /// Settings that the file says otherwise and only a restart brings into force.
    restart_needed: Vec<String>,
}

/// Reads the configuration file again. A file that does not work changes nothing: 422 with each of
/// its problems.
#[utoipa::path(
    post, path = "/admin/reload", tag = "operations",
    responses((status = 200, body = ReloadedView), Changing)
)]
pub(super) async fn reload(
    _: Master,
    State(desk): State<Desk>,
) -> Result<Json<ReloadedView>, AdminError> {
    let reloaded = desk.house.reload().await?;
    Ok(Json(ReloadedView {
        warnings: Problem::all(&reloaded.warnings),
        restart_needed: reloaded.restart_needed.into_iter().map(str::to_owned).collect(),
    }))
}

/// Who changed what, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditLog {
    data: Vec<AuditView>,
    /// What to send as `before` for those before these; null when there are none.
    next_before: Option<i64>,
}

/// One change.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditView {
    /// Grows with every change.
    number: i64,
    time: Moment,
    /// `admin`, `admin session`, `cli:NAME` or `configuration`.
    actor: String,
    /// `create`, `update`, `rotate`, `revoke` or `delete`.
    action: String,
    /// `key`, `organisation`, `team`, `project`, `budget` or `limit`.
    kind: String,
    /// Its id.
    object: String,
    /// The record as it was made or deleted, or of each changed field `[before, after]`.
    detail: serde_json::Value,
}

/// Which changes are asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only the OpenAPI document reads it")]
pub(super) struct AuditQuestion {
    /// How many at most.
    #[param(required = false, default = 100, minimum = 1, maximum = 1000)]
    limit: u32,
    /// Only those before this number.
    #[param(required = false, minimum = 0, maximum = 9223372036854775807_i64)]
    before: i64,
}

/// Lists who changed what, the newest first.
#[utoipa::path(
    get, path = "/admin/audit", tag = "operations", params(AuditQuestion),
    responses((status = 200, body = AuditLog), Asking)
)]
pub(super) async fn audit(
    _: Viewer,
    State(desk): State<Desk>,
    uri: Uri,
) -> Result<Json<AuditLog>, AdminError> {
    let mut parameters = Parameters::of(&uri);
    let limit = parameters.number("limit", 1..=MAX_AUDIT_LIMIT)?;
    let before = parameters.number("before", 0..=i64::MAX)?;
    parameters.finish()?;
    let limit = limit.and_then(|limit| limit.try_into().ok()).unwrap_or(AUDIT_LIMIT);
    let entries = desk.ledger()?.store().audit(limit, before).await?;
    let is_full = entries.len() == limit as usize;
    let last = entries.last().map(|entry| entry.number);
    Ok(Json(AuditLog {
        next_before: last.filter(|_| is_full),
        data: entries.into_iter().map(AuditView::from).collect(),
    }))
}

impl From<AuditEntry> for AuditView {
    fn from(entry: AuditEntry) -> Self {
        Self {
            number: entry.number,
            time: Moment(entry.time_ms),
            actor: entry.actor,
            action: entry.action,
            kind: entry.kind,
            object: entry.object,
            detail: entry.detail,
        }
    }
}
