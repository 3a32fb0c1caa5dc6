//! `/admin/openapi.json`: the admin API as an OpenAPI 3.1 document, made of its own routes and
//! types.

use std::sync::LazyLock;

use axum::Json;
use utoipa::{
    OpenApi as _,
    openapi::{
        OpenApi, PathItem, Paths,
        path::Operation,
        security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
        },
    },
};

use super::{access::COOKIE, error::ErrorBody, groups::LEVELS};

/// The document's frame; `super::routes` fills in the paths.
pub(super) fn frame() -> OpenApi {
    #[derive(utoipa::OpenApi)]
    #[openapi(
        info(
            title = "Weighbridge admin API",
            description = "Keys, groups, budgets, what was spent, and the configuration in force. \
                           Show a token in `Authorization: Bearer …`: the master token changes \
                           things, a viewer's token reads. A browser may show it once, to \
                           `POST /admin/session`, for a cookie. A body that is not of its schema is a \
                           400, a value that is and does not work a 422.",
            license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
        ),
        components(schemas(ErrorBody)),
        security(("token" = []), ("session" = [])),
    )]
    struct Frame;
    let mut document = Frame::openapi();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(scheme));
    let cookie = ApiKey::Cookie(ApiKeyValue::new(COOKIE));
    components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
    let header = ApiKeyValue::with_description("x-csrf-token", "The session's `csrf_token`.");
    components.add_security_scheme("csrf", SecurityScheme::ApiKey(ApiKey::Header(header)));
    document
}

/// This document. Needs no token.
#[utoipa::path(
    get, path = "/admin/openapi.json", tag = "operations", security(()),
    responses((status = 200, body = Object))
)]
pub(super) async fn document() -> Json<&'static OpenApi> {
    static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(|| {
        let (_, mut document) = super::routes().split_for_parts();
        document.paths = with_levels(document.paths);
        for item in document.paths.paths.values_mut() {
            guard_changes(item);
        }
        document
    });
    Json(&DOCUMENT)
}

/// Writes `/admin/{level}` out as the paths that there are.
fn with_levels(mut paths: Paths) -> Paths {
    for (path, item) in std::mem::take(&mut paths.paths) {
        if !path.contains("{level}") {
            paths.paths.insert(path, item);
            continue;
        }
        for (level, _) in LEVELS {
            paths.paths.insert(path.replace("{level}", level), of_level(item.clone(), level));
        }
    }
    paths
}

/// Says of changes that a cookie alone does not do.
fn guard_changes(item: &mut PathItem) {
    let PathItem { post, patch, delete, .. } = item;
    for operation in [post, patch, delete].into_iter().flatten() {
        operation.security.get_or_insert_with(|| {
            let none: [&str; 0] = [];
            let token = SecurityRequirement::new("token", none);
            vec![token, SecurityRequirement::new("session", none).add("csrf", none)]
        });
    }
}

/// The same operations under names of their own.
fn of_level(mut item: PathItem, level: &str) -> PathItem {
    let PathItem { get, post, patch, delete, .. } = &mut item;
    for operation in [get, post, patch, delete].into_iter().flatten() {
        let Operation { operation_id, tags, .. } = operation;
        *operation_id = operation_id.take().map(|id| format!("{id}_{level}"));
        *tags = Some(vec![level.to_owned()]);
    }
    item
}
