//! `/admin/organisations`, `/admin/teams`, `/admin/projects`: what keys belong to.
//!
//! One set of handlers serves all three; the OpenAPI document has each by its own path.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::request::Parts,
    response::Response,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Desk,
    access::{Master, Viewer},
    enforce,
    error::{AdminError, Asking, Changing, created, gone},
    keys::OriginView,
    read::{Moment, Sent, checked_name, in_path, present},
};
use crate::{
    api::error::ApiError,
    ledger::{
        Ledger, now_ms,
        tenant::{Group, Level, Origin},
    },
};

/// The levels of groups, by the name of their path.
pub(super) const LEVELS: [(&str, Level); 3] =
    [("organisations", Level::Organisation), ("teams", Level::Team), ("projects", Level::Project)];

/// An organisation, a team or a project.
#[derive(Serialize, ToSchema)]
pub(super) struct GroupView {
    /// `org_…`, `team_…`, `project_…`
    id: String,
    /// Unique within its level.
    name: String,
    /// The id of what it belongs to: a team's organisation, a project's team or organisation.
    parent: Option<String>,
    created_at: Moment,
    origin: OriginView,
}

/// All of a level.
#[derive(Serialize, ToSchema)]
pub(super) struct GroupList {
    /// Oldest first.
    data: Vec<GroupView>,
}

/// An organisation, a team or a project to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewGroup {
    #[schema(min_length = 1, max_length = 100, pattern = "^[^\\u0000-\\u001f\\u007f]+$")]
    name: String,
    /// The id of what it belongs to: a team's organisation, a project's team or organisation.
    parent: Option<String>,
}

/// What is to change. What is not named stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupChange {
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
    parent: Option<Option<String>>,
}

/// The level that a path is about.
pub(super) struct AtLevel {
    level: Level,
}

impl AtLevel {
    fn named(name: &str, path: &str) -> Result<Self, AdminError> {
        let found = LEVELS.iter().find(|(known, _)| *known == name);
        let found = found.map(|(_, level)| Self { level: *level });
        found.ok_or_else(|| ApiError::NoSuchPath(path.to_owned()).into())
    }
}

impl FromRequestParts<Desk> for AtLevel {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, AdminError> {
        let name: String = in_path(parts, desk).await?;
        Self::named(&name, parts.uri.path())
    }
}

/// One group of the level that a path is about.
pub(super) struct OneOf {
    level: Level,
    id: String,
}

impl FromRequestParts<Desk> for OneOf {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, AdminError> {
        let (name, id): (String, String) = in_path(parts, desk).await?;
        Ok(Self { level: AtLevel::named(&name, parts.uri.path())?.level, id })
    }
}

impl OneOf {
    fn missing(&self) -> AdminError {
        AdminError::Missing { kind: self.level.name(), id: self.id.clone() }
    }

    async fn find(&self, ledger: &Ledger) -> Result<Group, AdminError> {
        let groups = ledger.store().groups().await?;
        let is_it = |group: &Group| group.level == self.level && group.id == self.id;
        groups.into_iter().find(is_it).ok_or_else(|| self.missing())
    }

    /// The same, unless the configuration owns it.
    async fn find_own(&self, ledger: &Ledger) -> Result<Group, AdminError> {
        let group = self.find(ledger).await?;
        match group.origin {
            Origin::Admin => Ok(group),
            Origin::Configuration => {
                let kind = self.level.name();
                Err(AdminError::OwnedByConfiguration { kind, id: group.id })
            }
        }
    }
}

/// Lists every one.
#[utoipa::path(
    get, path = "/admin/{level}", tag = "groups",
    responses((status = 200, body = GroupList), Asking)
)]
pub(super) async fn list(
    _: Viewer,
    State(desk): State<Desk>,
    at: AtLevel,
) -> Result<Json<GroupList>, AdminError> {
    let groups = desk.ledger()?.store().groups().await?;
    let of_level = groups.into_iter().filter(|group| group.level == at.level);
    Ok(Json(GroupList { data: of_level.map(GroupView::from).collect() }))
}

/// Makes one.
#[utoipa::path(
    post, path = "/admin/{level}", tag = "groups", request_body = NewGroup,
    responses((status = 201, body = GroupView), Changing)
)]
pub(super) async fn create(
    master: Master,
    State(desk): State<Desk>,
    at: AtLevel,
    Sent(new): Sent<NewGroup>,
) -> Result<Response, AdminError> {
    let ledger = desk.ledger()?;
    let group = Group::new(at.level, checked_name(new.name)?, new.parent, now_ms());
    let made = ledger.store().create_group(&master.actor(), &group).await;
    made.map_err(|error| AdminError::of_change(error, &group.id, "parent"))?;
    enforce(&ledger).await?;
    Ok(created(GroupView::from(group)))
}

/// Shows one.
#[utoipa::path(
    get, path = "/admin/{level}/{id}", tag = "groups", params(("id" = String, Path)),
    responses((status = 200, body = GroupView), Asking)
)]
pub(super) async fn show(
    _: Viewer,
    State(desk): State<Desk>,
    one: OneOf,
) -> Result<Json<GroupView>, AdminError> {
    Ok(Json(one.find(&*desk.ledger()?).await?.into()))
}

/// Changes one.
#[utoipa::path(
    patch, path = "/admin/{level}/{id}", tag = "groups", request_body = GroupChange,
    params(("id" = String, Path)), responses((status = 200, body = GroupView), Changing)
)]
pub(super) async fn change(
    master: Master,
    State(desk): State<Desk>,
    one: OneOf,
    Sent(change): Sent<GroupChange>,
) -> Result<Json<GroupView>, AdminError> {
    let name = change.name.map(checked_name).transpose()?;
    let ledger = desk.ledger()?;
    one.find_own(&ledger).await?;
    let by = master.actor();
    let changed = ledger.store().update_group(&by, &one.id, |group| {
        if let Some(name) = name {
            group.name = name;
        }
        if let Some(parent) = change.parent {
            group.parent = parent;
        }
    });
    let group = changed.await.map_err(|error| AdminError::of_change(error, &one.id, "parent"))?;
    enforce(&ledger).await?;
    Ok(Json(group.into()))
}

/// Deletes one, and its budgets. What it spent stays in the ledger.
#[utoipa::path(
    delete, path = "/admin/{level}/{id}", tag = "groups", params(("id" = String, Path)),
    responses((status = 204), Changing)
)]
pub(super) async fn delete(
    master: Master,
    State(desk): State<Desk>,
    one: OneOf,
) -> Result<Response, AdminError> {
    let ledger = desk.ledger()?;
    one.find_own(&ledger).await?;
    ledger.store().delete_group(&master.actor(), &one.id).await?;
    enforce(&ledger).await?;
    Ok(gone())
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        Self {
            id: group.id,
            name: group.name,
            parent: group.parent,
            created_at: Moment(group.created_ms),
            origin: group.origin.into(),
        }
    }
}
