//! The admin API from a browser: what a session opens, what another site's page cannot make it do,
//! and when it ends.

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::{
    admin::{MASTER, Office, VIEWER, fault},
    house::{header, json_of},
};

/// A browser that has logged in.
struct Browser<'o> {
    office: &'o Office,
    cookie: String,
    csrf: String,
}

impl<'o> Browser<'o> {
    async fn log_in(office: &'o Office, token: &str) -> Self {
        let answer = log_in(office, token).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let cookie = header(&answer, "set-cookie").split(';').next().unwrap().to_owned();
        let session = json_of(answer).await;
        Self { office, cookie, csrf: session["csrf_token"].as_str().unwrap().to_owned() }
    }

    /// A request with the cookie, as its own page and every other can make it.
    fn with_cookie(&self, method: Method, path: &str) -> RequestBuilder {
        request(self.office, method, path).header("cookie", format!("a=b; {}", self.cookie))
    }

    /// The same as its own page makes it.
    fn own(&self, method: Method, path: &str) -> RequestBuilder {
        let own = self.with_cookie(method, path).header("sec-fetch-site", "same-origin");
        own.header("x-csrf-token", &self.csrf)
    }
}

fn request(office: &Office, method: Method, path: &str) -> RequestBuilder {
    let url = format!("{}{path}", office.house.admin.as_ref().unwrap());
    office.client.request(method, url)
}

fn with_body(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request.header("content-type", "application/json").body(body.to_string())
}

fn log_in(office: &Office, token: &str) -> RequestBuilder {
    with_body(request(office, Method::POST, "/admin/session"), &json!({"token": token}))
}

/// The status of a refusal, and its code.
async fn refusal(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    (status, fault(&json_of(response).await).0.to_owned())
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_session_opens_what_its_token_does_and_is_shown_in_a_cookie() {
    let office = Office::open().await;
    let answer = log_in(&office, MASTER).send().await.unwrap();
    let cookie = header(&answer, "set-cookie");
    let (shown, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(shown.strip_prefix("weighbridge_session=").unwrap().len(), 43);
    assert_eq!(attributes, "Path=/admin; HttpOnly; SameSite=Strict; Max-Age=28800");
    assert_eq!(header(&answer, "cache-control"), "no-store");
    let proxied = log_in(&office, MASTER).header("x-forwarded-proto", "https").send().await;
    assert!(header(&proxied.unwrap(), "set-cookie").ends_with("; Secure"));

    let master = Browser::log_in(&office, MASTER).await;
    let session = json_of(master.own(Method::GET, "/admin/session").send().await.unwrap()).await;
    assert_eq!((&session["role"], &session["idle_s"]), (&json!("master"), &json!(1_800)));
    assert_eq!(session["csrf_token"], master.csrf);
    assert!(session["expires_at"].as_str().unwrap().ends_with('Z'), "{session}");
    let made = with_body(master.own(Method::POST, "/admin/keys"), &json!({"name": "bot"}));
    assert_eq!(status(made).await, 201);
    let log = office.get("/admin/audit").await;
    assert_eq!(log["data"][0]["actor"], "admin session", "{log}");
    assert!(!log.to_string().contains(&master.cookie), "{log}");

    let viewer = Browser::log_in(&office, VIEWER).await;
    let session = json_of(viewer.own(Method::GET, "/admin/session").send().await.unwrap()).await;
    assert_eq!(session["role"], "viewer");
    assert_eq!(status(viewer.own(Method::GET, "/admin/keys")).await, 200);
    let refused = with_body(viewer.own(Method::POST, "/admin/keys"), &json!({"name": "x"}));
    assert_eq!(refusal(refused.send().await.unwrap()).await, (403, "caller_forbidden".to_owned()));
    office.house.close().await;
}

#[tokio::test]
async fn another_sites_page_changes_nothing() {
    let office = Office::open().await;
    let browser = Browser::log_in(&office, MASTER).await;
    let other = Browser::log_in(&office, MASTER).await;
    let reload = || browser.with_cookie(Method::POST, "/admin/reload");
    let own = || reload().header("x-csrf-token", &browser.csrf);
    let host = office.house.admin.as_ref().unwrap();
    for (request, code) in [
        (reload(), "caller_no_csrf_token"),
        (reload().header("x-csrf-token", ""), "caller_no_csrf_token"),
        (reload().header("x-csrf-token", &other.csrf), "caller_no_csrf_token"),
        (own().header("sec-fetch-site", "cross-site"), "caller_cross_site"),
        (own().header("sec-fetch-site", "same-site"), "caller_cross_site"),
        (own().header("origin", "https://evil.example"), "caller_cross_site"),
        (own().header("origin", "null"), "caller_cross_site"),
        (log_in(&office, MASTER).header("sec-fetch-site", "cross-site"), "caller_cross_site"),
    ] {
        let refused = refusal(request.send().await.unwrap()).await;
        assert_eq!(refused, (403, code.to_owned()));
    }
    for request in
        [own(), own().header("sec-fetch-site", "same-origin"), own().header("origin", host)]
    {
        assert_eq!(status(request).await, 200);
    }
    let by_token = request(&office, Method::POST, "/admin/reload").bearer_auth(MASTER);
    assert_eq!(status(by_token).await, 200, "a token says by itself that it is meant");
    office.house.close().await;
}

#[tokio::test]
async fn a_session_ends_by_its_browser_and_with_its_token() {
    let office = Office::open().await;
    let (gone, viewer) =
        (Browser::log_in(&office, MASTER).await, Browser::log_in(&office, VIEWER).await);
    let ended = gone.own(Method::DELETE, "/admin/session").send().await.unwrap();
    assert_eq!(ended.status(), 204);
    assert!(header(&ended, "set-cookie").starts_with("weighbridge_session=; "));
    assert!(header(&ended, "set-cookie").contains("Max-Age=0"));
    let over = gone.own(Method::GET, "/admin/keys").send().await.unwrap();
    assert_eq!(refusal(over).await, (401, "caller_no_session".to_owned()));

    let master = Browser::log_in(&office, MASTER).await;
    std::fs::write(office.dir.path().join("master"), "another-0123456789").unwrap();
    assert_eq!(status(master.own(Method::POST, "/admin/reload")).await, 200);
    assert_eq!(status(master.own(Method::GET, "/admin/keys")).await, 401);
    assert_eq!(status(viewer.own(Method::GET, "/admin/keys")).await, 200, "its token is the same");
    assert_eq!(status(log_in(&office, "another-0123456789")).await, 201);
    office.house.close().await;
}

#[tokio::test]
async fn wrong_tokens_at_the_login_count_like_any_other() {
    let office = Office::open().await;
    let from = |address: &str, token: &str| {
        log_in(&office, token).header("x-forwarded-for", address).send()
    };
    for attempt in 0..9 {
        let refused = from("192.0.2.1", "wrong-0123456789a").await.unwrap();
        let error = json_of(refused).await;
        assert_eq!(fault(&error), ("caller_unauthenticated", "token"), "{attempt}");
    }
    let bearer = request(&office, Method::GET, "/admin/keys").bearer_auth("wrong-0123456789a");
    assert_eq!(status(bearer.header("x-forwarded-for", "192.0.2.1")).await, 401);
    let refused = from("192.0.2.1", MASTER).await.unwrap();
    assert_eq!(refusal(refused).await, (429, "caller_too_many_failures".to_owned()));
    assert_eq!(from("192.0.2.2", MASTER).await.unwrap().status(), 201);
    let guessed = request(&office, Method::GET, "/admin/keys");
    let guessed = guessed.header("cookie", format!("weighbridge_session={}", "A".repeat(43)));
    assert_eq!(status(guessed).await, 401);
    office.house.close().await;
}

#[tokio::test]
async fn the_document_says_how_browsers_and_programs_are_let_in() {
    let office = Office::open().await;
    let document = office.get("/admin/openapi.json").await;
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes["token"]["scheme"], "bearer");
    let session = (&schemes["session"]["in"], &schemes["session"]["name"]);
    assert_eq!(session, (&json!("cookie"), &json!("weighbridge_session")));
    let reads = json!([{"token": []}, {"session": []}]);
    let changes = json!([{"token": []}, {"session": [], "csrf": []}]);
    assert_eq!(document["security"], reads);
    let keys = &document["paths"]["/admin/keys"];
    assert_eq!((keys["get"].get("security"), &keys["post"]["security"]), (None, &changes));
    office.house.close().await;
}
