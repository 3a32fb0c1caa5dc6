//! Somebody whom webhooks are posted to.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::State, routing::post};
use serde_json::Value;
use tokio::net::TcpListener;

/// A server on a port of its own that keeps what is posted.
pub struct Receiver {
    /// Where to post.
    pub url: String,
    posted: Posted,
}

type Posted = Arc<Mutex<Vec<Value>>>;

impl Receiver {
    /// Starts it; it lives as long as the test.
    pub async fn start() -> Self {
        let posted = Posted::default();
        let router = Router::new().route("/hook", post(keep)).with_state(Arc::clone(&posted));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, posted }
    }

    /// What was posted so far.
    pub fn posted(&self) -> Vec<Value> {
        self.posted.lock().unwrap().clone()
    }
}

async fn keep(State(posted): State<Posted>, body: String) {
    posted.lock().unwrap().push(serde_json::from_str(&body).unwrap());
}
