//! Budget warnings, posted as JSON.

use std::time::Duration;

use reqwest::{Client, Url};
use serde_json::json;
use tokio::sync::mpsc;

use super::{meter::Warning, now_ms};

/// Warnings that may wait; more are dropped, and logged as they happen anyway.
const WAITING: usize = 1_000;
/// How often a warning is sent until somebody takes it, with a pause that doubles between.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(10);

/// A handle to the task that posts.
#[derive(Debug)]
pub struct Webhook(mpsc::Sender<String>);

impl Webhook {
    /// Starts the task; it ends with the handle.
    pub fn start(url: Url) -> Result<Self, reqwest::Error> {
        let client = Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        let client = client.build()?;
        let (sender, mut receiver) = mpsc::channel::<String>(WAITING);
        tokio::spawn(async move {
            while let Some(body) = receiver.recv().await {
                post(&client, &url, body).await;
            }
        });
        Ok(Self(sender))
    }

    /// Posts a warning, in its turn.
    pub fn send(&self, warning: &Warning) {
        let budget = &warning.budget;
        let body = json!({
            "event": "budget.warning",
            "time_ms": now_ms(),
            "budget": budget.as_ref(),
            "percent": warning.percent,
            "used": warning.used,
        });
        if self.0.try_send(body.to_string()).is_err() {
            tracing::warn!(budget_id = budget.id, "too many warnings wait for the webhook");
        }
    }
}

async fn post(client: &Client, url: &Url, body: String) {
    let mut pause = FIRST_PAUSE;
    for _ in 0..TRIES {
        let request = client.post(url.clone()).header("content-type", "application/json");
        let status = request.body(body.clone()).send().await.map(|answer| answer.status());
        match status {
            Ok(status) if status.is_success() => return,
            // The URL may hold a token: it is not logged.
            Ok(status) => tracing::warn!(status = status.as_u16(), "the webhook refused a warning"),
            Err(error) => {
                tracing::warn!(error = %error.without_url(), "the webhook cannot be reached");
            }
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}
