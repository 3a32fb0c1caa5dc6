//! Requests at fixed times over kept connections, all by one thread: the generator shares the cores
//! with what it measures, and threads of its own that wake each other would be measured too.

use std::{
    io::{Error, ErrorKind, Read, Result, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A chat request as clients send it, in one piece.
pub fn request(model: &str, streamed: bool) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"{model}","stream":{streamed},"messages":[{{"role":"user","content":"Summarise the order: three boxes of nails, two hammers and a saw."}}]}}"#
    );
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// One kept connection and the request that is under way on it.
pub struct Connection {
    socket: TcpStream,
    due: Instant,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(address: &str) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, due: Instant::now(), answer: Vec::new() })
    }

    /// Sends a request and waits for the whole answer; whether it is a good one.
    pub fn ask(&mut self, request: &[u8]) -> Result<bool> {
        self.send(request, Instant::now())?;
        while !self.receive()? {}
        Ok(self.is_good())
    }

    fn is_good(&self) -> bool {
        self.answer.starts_with(b"HTTP/1.1 200")
    }

    fn send(&mut self, request: &[u8], due: Instant) -> Result<()> {
        self.due = due;
        self.answer.clear();
        self.socket.write_all(request)
    }

    /// Takes what has come, and waits when nothing has; whether the answer is whole.
    fn receive(&mut self) -> Result<bool> {
        let mut bytes = [0; 16 * 1024];
        let read = self.socket.read(&mut bytes)?;
        self.answer.extend_from_slice(bytes.get(..read).unwrap_or_default());
        if read == 0 {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
        Ok(whole(&self.answer))
    }
}

/// Whether nothing more of the answer is to come.
fn whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return false };
    let body = answer.len() - end - 4;
    let length = header(answer, "content-length").and_then(|length| length.parse().ok());
    length.map_or_else(|| answer.ends_with(b"0\r\n\r\n"), |length: usize| body >= length)
}

/// The value of a header of an answer.
fn header<'a>(answer: &'a [u8], name: &str) -> Option<&'a str> {
    let lines = answer.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.take_while(|line| !line.is_empty()).find_map(|line| {
        let (found, value) = std::str::from_utf8(line).ok()?.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// What became of the requests.
#[derive(Default)]
pub struct Asked {
    /// Seconds that each took.
    pub seconds: Vec<f64>,
    /// Answers that were not whole or no 200.
    pub failed: usize,
}

/// Who is asked, and by how many connections.
pub struct Generator<'a> {
    /// `127.0.0.1:PORT`
    pub address: &'a str,
    /// As many are open all the time, whatever becomes of single ones, so that what a server keeps
    /// for each is the same from beginning to end. When all wait for their answers, what is due waits.
    pub connections: usize,
}

impl Generator<'_> {
    /// Answers a second when every connection asks again at once.
    pub fn saturating_rate(&self, seconds: f64, request: &[u8]) -> f64 {
        let asked = self.at_rate(f64::INFINITY, seconds, |_| request);
        (asked.seconds.len() - asked.failed) as f64 / seconds
    }

    /// Asks for `seconds`, `rate` requests being due each second; a request's time counts from when
    /// it was due. `request` is told a request's number.
    pub fn at_rate<'r>(
        &self,
        rate: f64,
        seconds: f64,
        request: impl Fn(usize) -> &'r [u8],
    ) -> Asked {
        let open = || Connection::open(self.address).expect("the server listens");
        let mut idle: Vec<Connection> = (0..self.connections).map(|_| open()).collect();
        let mut busy: Vec<Connection> = Vec::new();
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(seconds);
        // Without a rate all is due at once, until the time is over.
        let due = |number: usize| match rate.is_finite() {
            true => start + Duration::from_secs_f64(number as f64 / rate),
            false => Instant::now(),
        };
        let (mut asked, mut sent) = (Asked::default(), 0);
        loop {
            let mut next = due(sent);
            while next < end
                && next <= Instant::now()
                && let Some(mut connection) = idle.pop()
            {
                if connection.send(request(sent), next).is_err() {
                    // The server has closed it since.
                    connection = open();
                    connection.send(request(sent), next).expect("the server takes a request");
                }
                busy.push(connection);
                sent += 1;
                next = due(sent);
            }
            if next >= end && busy.is_empty() {
                return asked;
            }
            let wakes = (next < end && !idle.is_empty()).then_some(next);
            let ready = readable(&busy, wakes);
            // From the back: the last one takes the place of the one that is removed.
            for place in ready.into_iter().rev() {
                let received = busy[place].receive();
                if matches!(received, Ok(false)) {
                    continue;
                }
                let done = busy.swap_remove(place);
                asked.seconds.push(done.due.elapsed().as_secs_f64());
                asked.failed += usize::from(received.is_err() || !done.is_good());
                let closed = header(&done.answer, "connection") == Some("close");
                idle.push(if received.is_ok() && !closed { done } else { open() });
            }
        }
    }
}

/// The places of those that have something to read, after a wait for the first; none when the time
/// came before.
fn readable(busy: &[Connection], until: Option<Instant>) -> Vec<usize> {
    let mut polled: Vec<PollFd<'_>> =
        busy.iter().map(|connection| PollFd::new(&connection.socket, PollFlags::IN)).collect();
    let wait = until.map(|until| {
        let left = until.saturating_duration_since(Instant::now());
        Timespec::try_from(left).expect("less than an age")
    });
    poll(&mut polled, wait.as_ref()).expect("sockets can be watched");
    let come = polled.iter().enumerate().filter(|(_, socket)| !socket.revents().is_empty());
    come.map(|(place, _)| place).collect()
}
