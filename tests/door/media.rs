//! Images and documents by address: passed on, fetched where the configuration says so, and never
//! from inside.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::State, http::Uri};
use reqwest::Response;
use serde_json::{Value, json};

use crate::{
    dialects::{EVERY_KIND, SURFACES, Surface},
    house::{House, header, json_of, serve},
};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR a lorry";
/// The same in base64.
const DATA: &str = "iVBORw0KGgoAAAANSUhEUiBhIGxvcnJ5";
const PDF: &[u8] = b"%PDF-1.7\n% a letter";
/// The same in base64.
const PDF_DATA: &str = "JVBERi0xLjcKJSBhIGxldHRlcg==";
/// A server that takes no addresses, and policies over two models of which the first fails.
const MORE: &str = r#"
[providers.plain]
base_url = "{base}"
image_urls = false
[models.m-plain]
provider = "plain"
upstream_name = "up"
[models.broken-amazon]
provider = "amazon"
upstream_name = "up?status=503"
[models.broken-openai]
provider = "openai-like"
upstream_name = "up?status=503"
[policies.bytes]
tiers = [{ name = "only", models = ["broken-amazon", "m-google"] }]
[policies.mixed]
tiers = [{ name = "only", models = ["broken-openai", "m-amazon"] }]
"#;
const ON: &str = "[images]\nfetch = true\ntimeout_ms = 5000\n";
const DOCUMENTS_ON: &str = "[documents]\nfetch = true\ntimeout_ms = 5000\n";
/// Those that are asked with the bytes of images only.
const TAKE_BYTES: [&str; 3] = ["m-amazon", "m-google", "m-plain"];

/// A gateway over every kind of provider; `images` is its configuration's table.
async fn house(images: &str) -> House {
    House::open_without_classifier(&config(images)).await
}

/// The same, for which this machine is as good as public.
async fn house_here(images: &str) -> House {
    let reach = |address: IpAddr| address.is_loopback();
    House::open_built(&config(images), None, |gateway| gateway.with_reach(reach)).await
}

fn config(images: &str) -> String {
    format!("{EVERY_KIND}{MORE}{images}").replace("{script}", "")
}

/// Where pictures are; it keeps the paths that it is asked for.
struct Host {
    root: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Host {
    async fn open() -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let router = Router::new().fallback(picture).with_state(Arc::clone(&asked));
        Self { root: serve(router).await, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.sort();
        asked
    }
}

async fn picture(State(asked): State<Arc<Mutex<Vec<String>>>>, uri: Uri) -> &'static [u8] {
    asked.lock().unwrap().push(uri.path().to_owned());
    match uri.path() {
        "/silent" => std::future::pending().await,
        "/page" => b"<html>not a picture</html>",
        path if path.ends_with(".pdf") => PDF,
        _ => PNG,
    }
}

/// "What is this?", with images by address.
fn content(surface: Surface, urls: &[&str]) -> Value {
    let (text, image): (_, fn(&str) -> Value) = match surface {
        Surface::Chat => {
            ("text", |url| json!({"type": "image_url", "image_url": {"url": url, "detail": "low"}}))
        }
        Surface::Responses => {
            ("input_text", |url| json!({"type": "input_image", "image_url": url}))
        }
        Surface::Messages => {
            ("text", |url| json!({"type": "image", "source": {"type": "url", "url": url}}))
        }
    };
    let text = json!({"type": text, "text": "What is this?"});
    std::iter::once(text).chain(urls.iter().map(|url| image(url))).collect()
}

async fn ask(house: &House, surface: Surface, model: &str, urls: &[&str]) -> Response {
    let turns = json!([{"role": "user", "content": content(surface, urls)}]);
    let field = if surface == Surface::Responses { "input" } else { "messages" };
    let body = surface.body(model, false, json!({ field: turns }));
    house.post(surface.path(), body).send().await.unwrap()
}

/// What the upstream was sent last, as text.
fn sent(house: &House) -> String {
    house.forwarded().last().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_fetched_for_who_takes_bytes_and_passed_on_to_who_takes_addresses() {
    for surface in SURFACES {
        let (house, host) = (house_here(ON).await, Host::open().await);
        let (one, two) = (host.url("/one.png"), host.url("/two.png"));
        for model in TAKE_BYTES {
            host.asked.lock().unwrap().clear();
            let response = ask(&house, surface, model, &[&one, &two, &one]).await;
            assert_eq!(response.status(), 200, "{surface:?} {model}");
            let warnings = header(&response, "x-weighbridge-warnings");
            assert!(!warnings.contains("image_dropped"), "{surface:?} {model}: {warnings}");
            let sent = sent(&house);
            assert_eq!(sent.matches(DATA).count(), 3, "{surface:?} {model}: {sent}");
            assert!(!sent.contains(&host.root), "{surface:?} {model}: {sent}");
            assert_eq!(host.asked(), ["/one.png", "/two.png"], "{surface:?} {model}");
        }
        host.asked.lock().unwrap().clear();
        for model in ["m-openai", "m-responder", "m-claude", "m-microsoft", "m-coherent"] {
            let response = ask(&house, surface, model, &[&one]).await;
            assert_eq!(response.status(), 200, "{surface:?} {model}");
            assert!(sent(&house).contains(&one), "{surface:?} {model}");
        }
        assert_eq!(host.asked(), [""; 0], "{surface:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_inside_is_refused_like_one_where_nobody_answers_and_before_anything_goes_out() {
    let (house, host) = (house(ON).await, Host::open().await);
    for surface in SURFACES {
        for model in TAKE_BYTES {
            let mut said = Vec::new();
            for url in [
                host.url("/x.png"),
                host.url("/x.png").replace("127.0.0.1", "localhost"),
                "http://169.254.169.254/latest/meta-data/".to_owned(),
                "http://[::ffff:10.0.0.1]/x.png".to_owned(),
                // Too long for a resolver to ask anybody.
                format!("http://{}.invalid/x.png", "a".repeat(64)),
            ] {
                let response = ask(&house, surface, model, &[&url]).await;
                assert_eq!(response.status(), 400, "{surface:?} {model} {url}");
                let error = json_of(response).await["error"].take();
                said.push((error["message"].clone(), error["code"].clone(), error["type"].clone()));
            }
            said.dedup();
            assert_eq!(said.len(), 1, "{said:?}");
            let (field, instead) = match surface {
                Surface::Chat => ("messages[0].content[1].image_url", "`data:` URL"),
                Surface::Responses => ("input[0].content[1].image_url", "`data:` URL"),
                Surface::Messages => ("messages[0].content[1].source.url", "`base64` source"),
            };
            let message = said[0].0.as_str().unwrap();
            assert!(message.contains(field) && message.contains(instead), "{message}");
        }
    }
    assert_eq!(host.asked(), [""; 0]);
    assert!(house.upstream.requests().is_empty());
    let metrics = house.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("weighbridge_image_fetches_total{outcome=\"refused_address\"} 36"));
    assert!(metrics.contains("weighbridge_image_fetches_total{outcome=\"unreachable\"} 9"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_option_nothing_is_fetched_and_what_is_lost_is_named() {
    let host = Host::open().await;
    let url = host.url("/x.png");
    for images in ["", "[images]\nmax_bytes = 1024\n", "[images]\nfetch = false\n"] {
        let house = house_here(images).await;
        for surface in SURFACES {
            let response = ask(&house, surface, "m-amazon", &[&url]).await;
            assert_eq!(response.status(), 200);
            let warnings = header(&response, "x-weighbridge-warnings");
            assert!(warnings.contains("image_dropped:"), "{surface:?}: {warnings}");
            assert!(!sent(&house).contains("image"), "{}", sent(&house));
            for model in ["m-google", "m-plain"] {
                let response = ask(&house, surface, model, &[&url]).await;
                assert_eq!(response.status(), 200);
                assert!(sent(&house).contains(&url), "{surface:?} {model}");
            }
        }
    }
    assert_eq!(host.asked(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_fetched_once_however_many_candidates_are_asked() {
    let (house, host) = (house_here(ON).await, Host::open().await);
    let response = ask(&house, Surface::Chat, "bytes", &[&host.url("/x.png")]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "x-weighbridge-attempts"), "2");
    assert_eq!(host.asked(), ["/x.png"]);
    let forwarded = house.forwarded();
    assert!(forwarded.len() == 2 && forwarded.iter().all(|body| body.to_string().contains(DATA)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_before_an_image_is_what_the_caller_is_told() {
    let (house, host) = (house_here(ON).await, Host::open().await);
    let (page, picture) = (host.url("/page"), host.url("/x.png"));
    let response = ask(&house, Surface::Chat, "mixed", &[&page]).await;
    assert_eq!(response.status(), 503);
    assert_eq!(house.upstream.requests().len(), 1);
    let response = ask(&house, Surface::Chat, "mixed", &[&picture]).await;
    assert_eq!(header(&response, "x-weighbridge-model"), "m-amazon");
    assert_eq!(host.asked(), ["/page", "/x.png"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_bounded_in_number_and_by_the_requests_own_deadline() {
    let (house, host) = (house_here(ON).await, Host::open().await);
    let urls: Vec<_> = (0..21).map(|at| host.url(&format!("/{at}.png"))).collect();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let response = ask(&house, Surface::Messages, "m-amazon", &urls).await;
    assert_eq!(response.status(), 400);
    let message = json_of(response).await["error"]["message"].to_string();
    assert!(message.contains("messages[0].content[21].source.url") && message.contains("20"));
    assert_eq!(host.asked(), [""; 0]);
    let response = ask(&house, Surface::Messages, "m-amazon", &urls[..20]).await;
    assert_eq!((response.status().as_u16(), host.asked().len()), (200, 20));

    let turns =
        json!([{"role": "user", "content": content(Surface::Chat, &[&host.url("/silent")])}]);
    let body = Surface::Chat.body("m-amazon", false, json!({ "messages": turns }));
    let request = house.post("/v1/chat/completions", body);
    let request = request.header("x-weighbridge-total-timeout-ms", "200");
    assert_eq!(request.send().await.unwrap().status(), 504);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_fetches_nothing() {
    let (house, host) = (house_here(ON).await, Host::open().await);
    let turns =
        json!([{"role": "user", "content": content(Surface::Messages, &[&host.url("/x.png")])}]);
    for (path, model) in [("/v1/decision", "bytes"), ("/v1/messages/count_tokens", "m-amazon")] {
        let body = json!({"model": model, "max_tokens": 9, "messages": turns});
        let response = house.post(path, body.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
    assert_eq!(host.asked(), [""; 0]);
}

/// "What does it say?", with a document by address.
async fn ask_of_document(house: &House, surface: Surface, model: &str, url: &str) -> Response {
    let content = match surface {
        Surface::Responses => json!([
            {"type": "input_text", "text": "What does it say?"},
            {"type": "input_file", "file_url": url},
        ]),
        _ => json!([
            {"type": "text", "text": "What does it say?"},
            {"type": "document", "source": {"type": "url", "url": url}},
        ]),
    };
    let field = if surface == Surface::Responses { "input" } else { "messages" };
    let turns = json!([{"role": "user", "content": content}]);
    let body = surface.body(model, false, json!({ field: turns }));
    house.post(surface.path(), body).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_fetched_for_who_takes_bytes_and_passed_on_to_who_takes_addresses() {
    // Chat has no field for a document's address.
    for surface in [Surface::Responses, Surface::Messages] {
        let (house, host) = (house_here(DOCUMENTS_ON).await, Host::open().await);
        let url = host.url("/letter.pdf");
        // Whom messages are put to as chat, responses are put to as they are.
        let (chatting, responding) = match surface {
            Surface::Responses => ("m-openai", "m-responder"),
            _ => ("m-responder", "m-claude"),
        };
        for model in [chatting, "m-openai", "m-microsoft", "m-amazon", "m-google", "m-plain"] {
            host.asked.lock().unwrap().clear();
            let response = ask_of_document(&house, surface, model, &url).await;
            assert_eq!(response.status(), 200, "{surface:?} {model}");
            let warnings = header(&response, "x-weighbridge-warnings");
            assert!(!warnings.contains("document_dropped"), "{surface:?} {model}: {warnings}");
            let sent = sent(&house);
            assert!(sent.contains(PDF_DATA) && !sent.contains(&url), "{surface:?} {model}: {sent}");
            assert_eq!(host.asked(), ["/letter.pdf"], "{surface:?} {model}");
        }
        host.asked.lock().unwrap().clear();
        for model in [responding, "m-claude"] {
            let response = ask_of_document(&house, surface, model, &url).await;
            assert_eq!(response.status(), 200, "{surface:?} {model}");
            assert!(sent(&house).contains(&url), "{surface:?} {model}");
        }
        // Nothing is fetched that would be left out all the same.
        let response = ask_of_document(&house, surface, "m-coherent", &url).await;
        let warnings = header(&response, "x-weighbridge-warnings");
        assert!(warnings.contains("document_dropped:"), "{surface:?}: {warnings}");
        assert_eq!(host.asked(), [""; 0], "{surface:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_cannot_be_fetched_names_its_field_and_images_have_a_switch_of_their_own() {
    let host = Host::open().await;
    let house = house_here(DOCUMENTS_ON).await;
    for (surface, field, instead) in [
        (Surface::Responses, "input[0].content[1].file_url", "`file_data`"),
        (Surface::Messages, "messages[0].content[1].source.url", "`base64` source"),
    ] {
        let response = ask_of_document(&house, surface, "m-amazon", &host.url("/page")).await;
        assert_eq!(response.status(), 400);
        let message = json_of(response).await["error"]["message"].to_string();
        let expected = [field, "is not a PDF document", instead];
        assert!(expected.iter().all(|part| message.contains(part)), "{message}");
    }
    assert!(house.upstream.requests().is_empty());
    let metrics = house.get("/metrics").send().await.unwrap().text().await.unwrap();
    let counted = "weighbridge_document_fetches_total{outcome=\"not_a_document\"} 2";
    assert!(metrics.contains(counted), "{metrics}");

    let url = host.url("/x.png");
    let response = ask(&house, Surface::Messages, "m-amazon", &[&url]).await;
    assert!(header(&response, "x-weighbridge-warnings").contains("image_dropped:"));
    let house = house_here(ON).await;
    let url = host.url("/letter.pdf");
    let response = ask_of_document(&house, Surface::Messages, "m-amazon", &url).await;
    assert!(header(&response, "x-weighbridge-warnings").contains("document_dropped:"));
    let asked = host.asked();
    assert!(asked.iter().all(|path| path == "/page"), "{asked:?}");
}
