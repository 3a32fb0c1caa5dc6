//! The fetcher over real sockets, against a host that misbehaves in every way.

use std::{
    io::Write as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{super::is_public, *};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR and so on";
const PDF: &[u8] = b"%PDF-1.7\n% and so on";
const MAX_BYTES: usize = 4096;

/// This machine's usual address counts as public; its others, and all else, as they are.
fn reach(address: IpAddr) -> bool {
    address == IpAddr::from([127, 0, 0, 1]) || is_public(address)
}

/// A host that answers by path and keeps the heads of what it is asked.
struct Host {
    root: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Host {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (noted, here) = (Arc::clone(&heads), root.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer(socket, Arc::clone(&noted), here.clone()));
            }
        });
        Self { root, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What comes of one path.
    async fn outcome(&self, path: &str) -> Result<Fetched, FetchError> {
        fetch_one(&format!("{}{path}", self.root), &[]).await
    }
}

async fn answer(mut socket: TcpStream, heads: Arc<Mutex<Vec<String>>>, root: String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap_or(b'\n'));
        assert!(head.len() < 10_000);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    heads.lock().unwrap_or_else(PoisonError::into_inner).push(head);
    let whole = |fields: &str, body: &[u8]| {
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\n{fields}content-length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    let to = |url: &str| {
        format!("HTTP/1.1 302 Found\r\nlocation: {url}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    };
    let reply = match path.as_str() {
        "/png" => whole("content-type: text/html\r\n", PNG),
        "/pdf" => whole("content-type: text/html\r\n", PDF),
        "/webp" => whole("", b"RIFF\x24\0\0\0WEBPVP8 "),
        "/html" => whole("content-type: image/png\r\n", b"<html><body>the intranet</body></html>"),
        "/short" => whole("", &PNG[..4]),
        "/empty" => whole("", b""),
        "/bomb" => whole("content-encoding: gzip\r\ncontent-type: image/png\r\n", &bomb()),
        "/large" => whole("", &[PNG, &[0; MAX_BYTES]].concat()),
        "/half" => whole("", &[PNG, &[0; MAX_BYTES / 2]].concat()),
        "/missing" => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "/unmoved" => b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "/to/png" => to("/png"),
        "/to/to/to/png" => to("/to/to/png"),
        "/to/to/png" => to("/to/png"),
        "/to/to/to/to/png" => to("/to/to/to/png"),
        "/to/loop" => to("/to/loop"),
        "/to/private" => to("http://10.0.0.1/png"),
        "/to/metadata" => to("http://169.254.169.254/latest/meta-data/"),
        "/to/mapped" => to("http://[::ffff:127.0.0.2]/png"),
        "/to/file" => to("file:///etc/passwd"),
        "/to/user" => to(&root.replace("http://", "http://user:password@")),
        "/cut" => [b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n", PNG].concat()[..60].to_vec(),
        "/garbage" => b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        "/silent" => Vec::new(),
        "/drip" => [b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n", PNG].concat(),
        "/endless" => b"HTTP/1.1 200 OK\r\n\r\n\x89PNG\r\n\x1a\n".to_vec(),
        path => panic!("the host knows no {path}"),
    };
    // The fetcher may leave at any time.
    let _ = socket.write_all(&reply).await;
    match path.as_str() {
        "/silent" | "/drip" => std::future::pending::<()>().await,
        "/endless" => while socket.write_all(&[0; 1024]).await.is_ok() {},
        _ => {}
    }
}

/// Three megabytes of an image in less than the largest that is fetched.
fn bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(PNG).unwrap();
    encoder.write_all(&vec![0; 3_000_000]).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < MAX_BYTES);
    bomb
}

fn fetcher(reach: Reach, allow_hosts: &[&str]) -> Fetcher {
    fetcher_of(MediaKind::Image, reach, allow_hosts)
}

fn fetcher_of(kind: MediaKind, reach: Reach, allow_hosts: &[&str]) -> Fetcher {
    let settings = FetchSettings {
        max_bytes: MAX_BYTES,
        max_total_bytes: 2 * MAX_BYTES,
        timeout: Duration::from_secs(1),
        allow_hosts: allow_hosts.iter().map(|host| (*host).to_owned()).collect(),
    };
    let tls = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Fetcher::new(kind, settings, tls, reach)
}

async fn fetch_all(fetcher: &Fetcher, urls: &[&str]) -> Vec<Result<Fetched, FetchError>> {
    let settings = fetcher.settings();
    fetcher.fetch(urls, settings.max_total_bytes, Instant::now() + settings.timeout).await
}

async fn fetch_one(url: &str, allow_hosts: &[&str]) -> Result<Fetched, FetchError> {
    fetch_all(&fetcher(reach, allow_hosts), &[url]).await.pop().unwrap()
}

#[tokio::test]
async fn an_image_comes_as_its_bytes_say_and_nothing_of_the_caller_goes() {
    let host = Host::open().await;
    let image = host.outcome("/png").await.unwrap();
    assert_eq!((image.media_type, image.data), ("image/png", STANDARD.encode(PNG)));
    assert_eq!(host.outcome("/webp").await.unwrap().media_type, "image/webp");
    let head = host.heads().remove(0);
    let mut names: Vec<_> =
        head.lines().skip(1).filter_map(|line| line.split(':').next()).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    assert_eq!(names, ["accept", "host", "user-agent"], "{head}");
}

#[tokio::test]
async fn a_document_is_a_pdf_and_no_picture() {
    let host = Host::open().await;
    let fetcher = fetcher_of(MediaKind::Document, reach, &[]);
    let (pdf, png) = (format!("{}/pdf", host.root), format!("{}/png", host.root));
    let found = fetch_all(&fetcher, &[&pdf, &png]).await;
    let document = Fetched { media_type: "application/pdf", data: STANDARD.encode(PDF) };
    assert_eq!(found, [Ok(document), Err(FetchError::NotADocument)]);
    assert!(host.heads()[0].contains("accept: application/pdf\r\n"), "{:?}", host.heads());
    assert_eq!(host.outcome("/pdf").await, Err(FetchError::NotAnImage));
}

#[tokio::test]
async fn what_is_no_image_or_too_large_or_late_is_an_error() {
    let host = Host::open().await;
    for (path, expected) in [
        ("/html", FetchError::NotAnImage),
        ("/short", FetchError::NotAnImage),
        ("/empty", FetchError::NotAnImage),
        ("/bomb", FetchError::NotAnImage),
        ("/large", FetchError::TooLarge(MAX_BYTES)),
        ("/endless", FetchError::TooLarge(MAX_BYTES)),
        ("/missing", FetchError::Unreachable),
        ("/unmoved", FetchError::Unreachable),
        ("/cut", FetchError::Unreachable),
        ("/garbage", FetchError::Unreachable),
        ("/silent", FetchError::Late),
        ("/drip", FetchError::Late),
    ] {
        assert_eq!(host.outcome(path).await, Err(expected), "{path}");
    }
}

#[tokio::test]
async fn three_redirects_are_followed_and_each_is_checked() {
    let host = Host::open().await;
    assert!(host.outcome("/to/to/to/png").await.is_ok());
    for (path, expected) in [
        ("/to/to/to/to/png", FetchError::Unreachable),
        ("/to/loop", FetchError::Unreachable),
        ("/to/private", FetchError::Refused),
        ("/to/metadata", FetchError::Refused),
        ("/to/mapped", FetchError::Refused),
        ("/to/file", FetchError::Refused),
        ("/to/user", FetchError::Refused),
    ] {
        assert_eq!(host.outcome(path).await, Err(expected), "{path}");
    }
}

#[tokio::test]
async fn an_address_that_is_not_public_is_refused_in_every_spelling() {
    let host = Host::open().await;
    let port = host.root.rsplit(':').next().unwrap();
    for name in [
        "localhost",
        "LOCALHOST",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
    ] {
        let url = format!("http://{name}:{port}/png");
        let found = fetch_all(&fetcher(is_public, &[]), &[&url]).await;
        assert_eq!(found, [Err(FetchError::Refused)], "{url}");
    }
    assert_eq!(host.heads(), [""; 0]);
}

#[tokio::test]
async fn a_name_is_asked_at_the_addresses_that_were_checked() {
    let host = Host::open().await;
    let url = host.root.replace("127.0.0.1", "localhost") + "/png";
    let found = fetch_all(&fetcher(|address| address.is_loopback(), &[]), &[&url]).await;
    assert!(matches!(found.as_slice(), [Ok(_)]), "{found:?}");
}

#[tokio::test]
async fn only_plain_http_and_https_are_asked_and_only_hosts_that_are_allowed() {
    let host = Host::open().await;
    let user = host.root.replace("http://", "http://user@");
    for url in
        ["ftp://1.1.1.1/x.png", "file:///etc/passwd", "gopher://1.1.1.1/", "x.png", "", &user]
    {
        assert_eq!(fetch_one(url, &[]).await, Err(FetchError::Url), "{url}");
    }
    let url = format!("{}/png", host.root);
    assert!(fetch_one(&url, &["example.com", "127.0.0.1"]).await.is_ok());
    for hosts in [&["example.com"][..], &["*.0.0.1.com", "27.0.0.1"]] {
        assert_eq!(fetch_one(&url, hosts).await, Err(FetchError::Host), "{hosts:?}");
    }
    let under = fetcher(reach, &["*.example.com"]);
    for (name, allowed) in
        [("a.example.com", true), ("a.b.example.com", true), ("example.com", false)]
    {
        assert_eq!(under.is_allowed(name), allowed, "{name}");
    }
    assert!(!under.is_allowed("a.example.com.evil.net") && !under.is_allowed("badexample.com"));
}

#[tokio::test]
async fn several_are_bounded_together_and_end_with_the_first_that_fails() {
    let host = Host::open().await;
    let url = |path: &str| format!("{}{path}", host.root);
    let (png, html, half) = (url("/png"), url("/html"), url("/half"));
    let fetcher = fetcher(reach, &[]);
    let found = fetch_all(&fetcher, &[&png, &html, &png]).await;
    assert!(matches!(found.as_slice(), [Ok(_), Err(FetchError::NotAnImage)]), "{found:?}");
    let found = fetch_all(&fetcher, &[half.as_str(); 5]).await;
    assert_eq!(found.last(), Some(&Err(FetchError::AllTooLarge(2 * MAX_BYTES))));
    let found = fetch_all(&fetcher, &[png.as_str(); 20]).await;
    assert!(found.len() == 20 && found.iter().all(Result::is_ok), "{found:?}");
}
