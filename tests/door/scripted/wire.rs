//! A client that hides nothing: raw HTTP/1.1 over a socket, the chunks of a body as they came.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use weighbridge::mock::ScriptedUpstream;

/// No test waits longer for the server.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A scripted upstream on a free port.
pub struct Server {
    pub upstream: ScriptedUpstream,
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub async fn start() -> Self {
        let upstream = ScriptedUpstream::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = upstream.clone().serve(listener, async {
            let _ = stopped.await;
        });
        Self { upstream, address, stop, task: tokio::spawn(serving) }
    }

    /// Stops it and waits until it is gone.
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, "", body.to_string().as_bytes()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", b"").await
    }

    /// A chat request to `model`, which may carry directives.
    pub async fn chat(&self, model: &str) -> Answer {
        self.post("/v1/chat/completions", chat_body(model)).await
    }

    /// The same as a stream.
    pub async fn stream(&self, model: &str) -> Answer {
        self.post("/v1/chat/completions", stream_body(model)).await
    }

    /// `headers` are whole lines, each ended by CRLF.
    pub async fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut connection = self.open(method, path, headers, body).await;
        tokio::time::timeout(PATIENCE, connection.answer()).await.expect("no answer in time")
    }

    /// Sends a request and leaves the answer on the socket.
    pub async fn open(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Connection {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: mock\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        socket.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        Connection { socket, received: Vec::new(), sent_at: Instant::now() }
    }
}

pub fn chat_body(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "What is rain?"}]})
}

pub fn stream_body(model: &str) -> Value {
    let mut body = chat_body(model);
    body["stream"] = json!(true);
    body
}

/// One request's connection.
pub struct Connection {
    socket: TcpStream,
    received: Vec<u8>,
    sent_at: Instant,
}

impl Connection {
    /// Reads until `text` has come.
    pub async fn read_until(&mut self, text: &str) {
        let reading = async {
            while !String::from_utf8_lossy(&self.received).contains(text) {
                let count = self.socket.read_buf(&mut self.received).await.unwrap();
                assert!(count > 0, "closed before {text:?}");
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("not received in time");
    }

    /// Whether nothing arrives for `silence`.
    pub async fn is_silent_for(&mut self, silence: Duration) -> bool {
        let read = self.socket.read_buf(&mut self.received);
        tokio::time::timeout(silence, read).await.is_err()
    }

    /// Reads to the end of the connection.
    pub async fn answer(&mut self) -> Answer {
        let mut head_after = None;
        let mut first_byte_after = None;
        loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                head_after.get_or_insert(self.sent_at.elapsed());
                if self.received.len() > end + 4 {
                    first_byte_after.get_or_insert(self.sent_at.elapsed());
                }
            }
            // A reset counts as an end: what was received tells whether the answer is whole.
            match self.socket.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        let mut answer = Answer::parse(&self.received);
        answer.head_after = head_after.unwrap_or_default();
        answer.first_byte_after = first_byte_after.unwrap_or_default();
        answer.total = self.sent_at.elapsed();
        answer
    }
}

/// A response, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The writes of a chunked body, or one with all of a body of known length.
    pub writes: Vec<Vec<u8>>,
    /// The body came to the end that HTTP announced.
    pub is_whole: bool,
    pub head_after: Duration,
    pub first_byte_after: Duration,
    pub total: Duration,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = find(bytes, b"\r\n\r\n").expect("no head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let body = &bytes[end + 4..];
        let is_chunked = headers.iter().any(|(name, _)| name == "transfer-encoding");
        let (writes, is_whole) = if is_chunked {
            dechunk(body)
        } else {
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
            (vec![body.to_vec()], body.len() == length)
        };
        let unknown = Duration::ZERO;
        Self {
            status,
            headers,
            writes,
            is_whole,
            head_after: unknown,
            first_byte_after: unknown,
            total: unknown,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn body(&self) -> String {
        String::from_utf8(self.writes.concat()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// `error.FIELD` of an error object.
    pub fn error(&self, field: &str) -> Value {
        self.json()["error"][field].clone()
    }

    /// The `data` of every event.
    pub fn data(&self) -> Vec<String> {
        let body = self.body().replace("\r\n", "\n");
        let lines = body.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.map(str::to_owned).collect()
    }

    /// The events that are JSON.
    pub fn chunks(&self) -> Vec<Value> {
        self.data().iter().filter_map(|data| serde_json::from_str(data).ok()).collect()
    }

    /// The content chunks of the first choice.
    pub fn contents(&self) -> Vec<String> {
        let chunks = self.chunks();
        let deltas = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]);
        let contents = deltas.filter(|delta| delta.get("role").is_none());
        contents.filter_map(|delta| delta["content"].as_str().map(str::to_owned)).collect()
    }

    pub fn finish_reason(&self) -> Option<String> {
        let chunks = self.chunks();
        let mut reasons =
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str());
        reasons.next().map(str::to_owned)
    }

    pub fn is_done(&self) -> bool {
        self.data().last().is_some_and(|data| data == "[DONE]")
    }
}

/// The chunks of RFC 9112, section 7.1, and whether the last one came.
fn dechunk(mut body: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut writes = Vec::new();
    while let Some(line_end) = find(body, b"\r\n") {
        let size = std::str::from_utf8(&body[..line_end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (writes, true);
        }
        let start = line_end + 2;
        let Some(data) = body.get(start..start + size) else { break };
        writes.push(data.to_vec());
        body = body.get(start + size + 2..).unwrap_or_default();
    }
    (writes, false)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
