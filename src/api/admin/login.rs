//! `/admin/session`: a browser shows a token once and holds a cookie from then on.

use std::time::Instant;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, header::SET_COOKIE},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Desk,
    access::{Access, COOKIE, Member, Stranger},
    error::{AdminError, Asking, Changing, created, gone},
    read::{Moment, Sent},
    sessions::{IDLE, LIFETIME, Session, csrf_token},
};

/// Who wants to log in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSession {
    /// The master token, or a viewer's.
    token: String,
}

/// A session.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionView {
    role: RoleView,
    /// When it ends at the latest.
    expires_at: Moment,
    /// It also ends after this long without a request, in seconds.
    idle_s: u64,
    /// What every changing request with the cookie sends as `x-csrf-token`.
    csrf_token: String,
}

/// What a session opens.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum RoleView {
    /// Everything.
    Master,
    /// What only reads.
    Viewer,
}

fn view(shown: &str, session: &Session) -> SessionView {
    SessionView {
        role: match session.access {
            Access::Change => RoleView::Master,
            Access::Read => RoleView::Viewer,
        },
        expires_at: Moment(session.ends_ms),
        idle_s: IDLE.as_secs(),
        csrf_token: csrf_token(shown),
    }
}

/// Begins a session in a cookie that scripts cannot read, for browsers.
#[utoipa::path(
    post, operation_id = "log_in", path = "/admin/session", tag = "session", security(()),
    request_body = NewSession,
    responses(
        (status = 201, body = SessionView,
         headers(("set-cookie" = String, description = "`weighbridge_session`"))),
        Changing
    )
)]
pub(super) async fn log_in(
    stranger: Stranger,
    State(desk): State<Desk>,
    Sent(new): Sent<NewSession>,
) -> Result<Response, AdminError> {
    let (access, token) = stranger.show(&desk, &new.token)?;
    let (shown, session) = desk.sessions.begin(access, token, Instant::now())?;
    tracing::info!(address = stranger.address(), role = ?access, "logged in to the admin API");
    let answer = created(view(&shown, &session));
    Ok(with_cookie(answer, &shown, LIFETIME.as_secs(), stranger.is_encrypted()))
}

/// Shows the cookie's session.
#[utoipa::path(
    get, operation_id = "show_session", path = "/admin/session", tag = "session",
    security(("session" = [])), responses((status = 200, body = SessionView), Asking)
)]
pub(super) async fn show(member: Member) -> Json<SessionView> {
    Json(view(&member.shown, &member.session))
}

/// Ends the cookie's session.
#[utoipa::path(
    delete, operation_id = "log_out", path = "/admin/session", tag = "session",
    security(("session" = [], "csrf" = [])), responses((status = 204), Changing)
)]
pub(super) async fn log_out(member: Member, State(desk): State<Desk>) -> Response {
    desk.sessions.end(&member.shown);
    with_cookie(gone(), "", 0, member.is_encrypted)
}

/// The cookie goes back to this API alone, never with a request that another site makes (RFC
/// 6265bis), and over TLS only where the browser speaks it.
fn with_cookie(answer: Response, shown: &str, seconds: u64, is_encrypted: bool) -> Response {
    let secure = if is_encrypted { "; Secure" } else { "" };
    let cookie = format!(
        "{COOKIE}={shown}; Path=/admin; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}"
    );
    // Base64url and digits: always a header.
    let cookie = HeaderValue::from_str(&cookie).map(|cookie| [(SET_COOKIE, cookie)]);
    (cookie.ok(), answer).into_response()
}
