//! The admin API: keys, groups, budgets, what was spent, and the configuration in force, on a
//! listener of its own.
//!
//! Callers show a token in `Authorization: Bearer …` (`access`): the master token may change
//! things, a viewer's token only reads. Browsers show it once and get a session (`login`,
//! `sessions`), whose changes need a second token that only their own page knows, so that no other
//! site's page can make them. Nothing else lets anybody in.
//!
//! A change is in the ledger's store, in its audit log and in force when its answer goes out.
//! Records that the configuration file owns are changed there and not here.
//!
//! The OpenAPI document (`openapi`) is made of this module's types and routes. A body that is not
//! of its schema is a 400, a value that is and does not work a 422; `error` has them all.

mod access;
mod budget_values;
mod budgets;
mod error;
mod groups;
mod key_budgets;
mod keys;
mod login;
mod openapi;
mod operations;
mod read;
mod requests;
mod restrictions;
mod sessions;
mod usage;

use std::{future::Future, sync::Arc};

use axum::{
    Router,
    http::{HeaderValue, Method, Uri, header},
    middleware::map_response,
    response::Response,
};
use tokio::net::TcpListener;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{access::Logins, error::AdminError, sessions::Sessions};
use super::{error::ApiError, tls::shown};
use crate::{
    gateway::{Gateway, House},
    ledger::Ledger,
};

/// What every handler works on.
#[derive(Clone)]
struct Desk {
    house: House,
    logins: Arc<Logins>,
    sessions: Arc<Sessions>,
    /// Whether the listener speaks TLS.
    is_encrypted: bool,
}

impl Desk {
    fn gateway(&self) -> Arc<Gateway> {
        self.house.gateway()
    }

    fn ledger(&self) -> Result<Arc<Ledger>, AdminError> {
        self.gateway().ledger().cloned().ok_or(AdminError::NoLedger)
    }
}

/// Brings a change that was stored into force.
async fn enforce(ledger: &Ledger) -> Result<(), AdminError> {
    ledger.refresh(true).await.map_err(AdminError::NotYetInForce)
}

/// The routes with their document.
fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(operations::health))
        .routes(routes!(openapi::document))
        .routes(routes!(login::log_in, login::show, login::log_out))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::show, keys::change, keys::revoke))
        .routes(routes!(keys::rotate))
        .routes(routes!(budgets::list, budgets::create))
        .routes(routes!(budgets::show, budgets::change, budgets::delete))
        .routes(routes!(usage::usage))
        .routes(routes!(usage::spend))
        .routes(routes!(requests::show))
        .routes(routes!(operations::audit))
        .routes(routes!(operations::config))
        .routes(routes!(operations::reload))
        .routes(routes!(groups::list, groups::create))
        .routes(routes!(groups::show, groups::change, groups::delete))
}

/// The admin API over a gateway.
pub fn router(house: impl Into<House>) -> Router {
    furnished(house.into(), false)
}

fn furnished(house: House, is_encrypted: bool) -> Router {
    let desk = Desk { house, logins: Arc::default(), sessions: Arc::default(), is_encrypted };
    let (router, _) = routes().split_for_parts();
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(map_response(keep_private))
        .with_state(desk)
}

/// Serves the admin API until `stop`, and then at most as long as answers in flight may take.
pub async fn serve(
    listener: TcpListener,
    house: impl Into<House>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let house = house.into();
    let grace = house.gateway().config().server.shutdown_grace;
    let tls = shown(&house, |config| config.admin.as_ref()?.tls.as_ref());
    let router = furnished(house, tls.is_some());
    super::serve_until((listener, tls), router, stop, grace, async {}).await
}

/// Answers hold secrets and figures that no cache should keep.
async fn keep_private(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn not_found(uri: Uri) -> AdminError {
    ApiError::NoSuchPath(uri.path().to_owned()).into()
}

async fn method_not_allowed(method: Method, uri: Uri) -> AdminError {
    ApiError::MethodNotAllowed { path: uri.path().to_owned(), method: method.to_string() }.into()
}
