//! From a scripted answer to bytes on the wire, at the pace and with the failures of the script.
//!
//! A dialect builds a [`Reply`]; [`Reply::send`] makes the HTTP response. Its body plays
//! [`Step`]s: writes, waits, and an end that may be a break. Dropping the body before its last
//! step means that the client has left, which the [`Ticket`] in it notes.

use std::io;
use std::iter::Peekable;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::sync::watch;
use uuid::Uuid;

use super::directives::{Directives, MAX_DELAY};
use super::frames::{Frames, MALFORMED, StreamFormat};
use super::play::{Cue, Event};
use super::record::{Ending, Ticket};
use super::script::ErrorAnswer;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const AMAZON_EVENT_STREAM: HeaderValue =
    HeaderValue::from_static("application/vnd.amazon.eventstream");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
/// What a reverse proxy in front of a provider says in its place.
const HTML_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Bad gateway</title></head>\
    <body><h1>Bad gateway</h1><p>The server did not answer in time.</p></body></html>\n";

/// One step of a body. The body ends cleanly after the last.
#[derive(Debug)]
pub(super) enum Step {
    Write(Bytes),
    Pause(Duration),
    /// Silence until the client leaves, [`MAX_DELAY`] at most; then the connection breaks.
    Hold,
    /// The connection breaks.
    Cut,
}

type Steps = Box<dyn Iterator<Item = Step> + Send>;

/// A response to be.
pub(super) struct Reply {
    status: StatusCode,
    content_type: HeaderValue,
    /// The dialect's and the script's own.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// `content-length`, which a cut does not honour. `None`: chunked.
    length: Option<usize>,
    head_delay: Duration,
    split: Option<usize>,
    steps: Steps,
}

impl Reply {
    /// JSON without misbehaviour.
    pub fn json(status: StatusCode, body: Vec<u8>) -> Self {
        Self::plain(status, JSON, body)
    }

    fn plain(status: StatusCode, content_type: HeaderValue, body: Vec<u8>) -> Self {
        Self {
            status,
            content_type,
            headers: Vec::new(),
            length: Some(body.len()),
            head_delay: Duration::ZERO,
            split: None,
            steps: Box::new(std::iter::once(Step::Write(body.into()))),
        }
    }

    /// An error in a dialect's shape.
    pub fn error(error: ErrorAnswer) -> Self {
        let ErrorAnswer { status, headers, body } = error;
        Self { headers, ..Self::json(status, body) }
    }

    /// The same with one more header.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// A page in place of JSON.
    pub fn html_page(status: StatusCode) -> Self {
        Self::plain(status, HTML, HTML_PAGE.into())
    }

    /// Nothing in place of a body, or of a stream.
    pub fn empty(status: StatusCode, streams: Option<StreamFormat>) -> Self {
        let content_type = streams.map_or(JSON, content_type);
        // Without an announced length, so that the script is played like any other.
        Self { length: None, ..Self::plain(status, content_type, Vec::new()) }
    }

    /// An answer in one body.
    pub fn whole(status: StatusCode, body: Vec<u8>, directives: &Directives) -> Self {
        let length = body.len();
        let (steps, length_is_sent) = whole_steps(body.into(), directives);
        let reply = Self::plain(status, JSON, Vec::new());
        Self { steps, length: length_is_sent.then_some(length), ..reply }.paced(directives)
    }

    /// An answer in frames. `render` writes those of an event.
    pub fn stream(
        status: StatusCode,
        format: StreamFormat,
        cues: impl Iterator<Item = Cue> + Send + 'static,
        directives: &Directives,
        mut render: impl FnMut(Event, &mut Frames) + Send + 'static,
    ) -> Self {
        let mut frames = Frames::new(format, directives.crlf, directives.comment);
        let chunk_delay = directives.chunk_delay;
        let mut is_first = true;
        let steps = cues.map_while(move |cue| {
            let event = match cue {
                Cue::Close => return None,
                Cue::Hold => return Some([None, Some(Step::Hold)]),
                Cue::Cut => return Some([None, Some(Step::Cut)]),
                Cue::Event(event) => event,
            };
            if event != Event::Done {
                frames.comment();
            }
            match event {
                Event::Noise => frames.noise(),
                _ => render(event, &mut frames),
            }
            let write = frames.take();
            let waits = !is_first && event != Event::Done && !chunk_delay.is_zero();
            is_first = false;
            // What a dialect does not write takes no time.
            let pause = (waits && !write.is_empty()).then_some(Step::Pause(chunk_delay));
            Some([pause, Some(Step::Write(write))])
        });
        let reply = Self::plain(status, content_type(format), Vec::new());
        Self { steps: Box::new(steps.flatten().flatten()), length: None, ..reply }.paced(directives)
    }

    /// What directives do to every reply, errors included.
    pub fn paced(mut self, directives: &Directives) -> Self {
        if !directives.first_delay.is_zero() {
            let silence = std::iter::once(Step::Pause(directives.first_delay));
            self.steps = Box::new(silence.chain(self.steps));
        }
        if let Some(content_type) = &directives.content_type {
            self.content_type = content_type.clone();
        }
        if self.status.as_u16() >= 300 {
            let retry_after = retry_after(directives);
            self.headers.extend(retry_after.map(|value| (header::RETRY_AFTER, value)));
        }
        self.length = directives.length.or(self.length);
        self.head_delay = directives.head_delay;
        self.split = directives.split;
        self
    }

    /// The response, after the delay of its head.
    pub async fn send(self, ticket: Ticket, mut stop: Stop) -> Response {
        // When the server stops, the body says so.
        let _ = stop.sleep(self.head_delay).await;
        let player = Player {
            steps: self.steps.peekable(),
            unsent: BytesMut::new(),
            split: self.split,
            has_written: false,
            end: None,
            stop,
            ticket,
        };
        let body = stream::unfold(player, |mut player| async move {
            player.next_write().await.map(|write| (write, player))
        });
        let mut response = Response::new(Body::from_stream(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, self.content_type);
        if let Some(length) = self.length {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        headers.extend(self.headers);
        if let Ok(id) = HeaderValue::try_from(format!("req_{}", Uuid::now_v7().simple())) {
            headers.insert("x-request-id", id);
        }
        response
    }
}

fn content_type(format: StreamFormat) -> HeaderValue {
    match format {
        StreamFormat::Events => EVENT_STREAM,
        StreamFormat::JsonArray => JSON,
        StreamFormat::Amazon => AMAZON_EVENT_STREAM,
    }
}

/// Seconds, or a date (RFC 9110, sections 10.2.3 and 5.6.7).
fn retry_after(directives: &Directives) -> Option<HeaderValue> {
    if let Some(seconds) = directives.retry_after_s {
        return Some(seconds.into());
    }
    let wait = Duration::from_secs(directives.retry_after_date_s?.into());
    let date = jiff::Timestamp::now().checked_add(wait).ok()?;
    HeaderValue::try_from(date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()).ok()
}

/// The steps of an answer in one body, and whether its length is announced. Mishaps "after N
/// chunks" happen in the middle, or before the first byte for N = 0.
fn whole_steps(body: Bytes, directives: &Directives) -> (Steps, bool) {
    if directives.noise.is_some() {
        return (
            Box::new([Step::Write(Bytes::from_static(b"upstream connect error"))].into_iter()),
            false,
        );
    }
    let half = body.slice(..body.len() / 2);
    let until = |chunks: usize| Step::Write(if chunks == 0 { Bytes::new() } else { half.clone() });
    if directives.garbage.is_some() {
        return (Box::new([Step::Write(Bytes::from_static(MALFORMED))].into_iter()), false);
    }
    if let Some(chunks) = directives.cut {
        return (Box::new([until(chunks), Step::Cut].into_iter()), true);
    }
    if let Some(chunks) = directives.stall {
        return (Box::new([until(chunks), Step::Hold].into_iter()), true);
    }
    if let Some(chunks) = directives.close {
        return (Box::new([until(chunks)].into_iter()), false);
    }
    if directives.endless {
        let chunk_delay = directives.chunk_delay;
        let more = move |_| [Step::Pause(chunk_delay), Step::Write(Bytes::from_static(b" more"))];
        let for_ever = (0_u64..).flat_map(more);
        return (Box::new(std::iter::once(Step::Write(half)).chain(for_ever)), false);
    }
    (Box::new(std::iter::once(Step::Write(body))), true)
}

/// Plays the steps of one body.
struct Player {
    steps: Peekable<Steps>,
    /// Written by the script, not yet handed on.
    unsent: BytesMut,
    split: Option<usize>,
    has_written: bool,
    /// Set when nothing more is to be written: how the body ends.
    end: Option<End>,
    stop: Stop,
    ticket: Ticket,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Clean,
    Broken(Ending),
}

impl Player {
    /// The next bytes; `Err` breaks the connection, `None` ends the body.
    async fn next_write(&mut self) -> Option<io::Result<Bytes>> {
        // The server flushes whenever a body has nothing ready: each write goes out by itself,
        // and what came before a cut is not lost with it. The first may join the head.
        if self.has_written {
            tokio::task::yield_now().await;
        }
        loop {
            if let Some(write) = self.take_write() {
                self.has_written = true;
                // A server that knows the length asks for nothing after the last byte.
                if self.unsent.is_empty() && self.end.is_none() && self.steps.peek().is_none() {
                    self.ticket.end(Ending::Complete);
                }
                return Some(Ok(write));
            }
            match self.end {
                None => self.advance().await,
                Some(End::Clean) => {
                    self.ticket.end(Ending::Complete);
                    return None;
                }
                Some(End::Broken(ending)) => {
                    self.ticket.end(ending);
                    self.end = Some(End::Clean);
                    // A break before the first byte still has its head.
                    tokio::task::yield_now().await;
                    return Some(Err(io::Error::other("the script cuts the connection here")));
                }
            }
        }
    }

    /// The bytes that make the next write, if there are enough of them.
    fn take_write(&mut self) -> Option<Bytes> {
        let available = self.unsent.len();
        // Bytes that do not fill a write go out when nothing comes that could fill it up.
        let is_last =
            self.end.is_some() || matches!(self.steps.peek(), None | Some(Step::Hold | Step::Cut));
        let size = match self.split {
            Some(size) if available >= size => size,
            Some(_) if !is_last => 0,
            _ => available,
        };
        (size > 0).then(|| self.unsent.split_to(size).freeze())
    }

    /// Plays one step.
    async fn advance(&mut self) {
        if self.stop.is_stopped() && self.steps.peek().is_some() {
            self.end = Some(End::Broken(Ending::Stopped));
            return;
        }
        match self.steps.next() {
            Some(Step::Write(bytes)) => self.unsent.extend_from_slice(&bytes),
            Some(Step::Pause(delay)) => {
                if self.stop.sleep(delay).await.is_err() {
                    self.end = Some(End::Broken(Ending::Stopped));
                }
            }
            Some(Step::Hold) => {
                let held = self.stop.sleep(MAX_DELAY).await;
                let ending = if held.is_ok() { Ending::Complete } else { Ending::Stopped };
                self.end = Some(End::Broken(ending));
            }
            Some(Step::Cut) => self.end = Some(End::Broken(Ending::Complete)),
            None => self.end = Some(End::Clean),
        }
    }
}

/// Tells waiting answers that the server stops.
#[derive(Debug, Clone)]
pub(super) struct Stop(Option<watch::Receiver<bool>>);

/// The server stops.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopping;

impl Stop {
    /// For a router whose server is someone else's.
    pub fn never() -> Self {
        Self(None)
    }

    /// Stops when the value becomes true.
    pub fn on(signal: watch::Receiver<bool>) -> Self {
        Self(Some(signal))
    }

    fn is_stopped(&self) -> bool {
        self.0.as_ref().is_some_and(|signal| *signal.borrow())
    }

    /// Resolves when the server stops.
    pub async fn stopped(&mut self) {
        // A sender that is gone without a word will not stop anything.
        let is_told = match &mut self.0 {
            Some(signal) => signal.wait_for(|stopped| *stopped).await.is_ok(),
            None => false,
        };
        if !is_told {
            std::future::pending::<()>().await;
        }
    }

    async fn sleep(&mut self, delay: Duration) -> Result<(), Stopping> {
        if delay.is_zero() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => Ok(()),
            () = self.stopped() => Err(Stopping),
        }
    }
}
