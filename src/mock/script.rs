//! A request's script, and what it says in place of an answer.

use axum::http::{HeaderName, HeaderValue, StatusCode};

use super::directives::{DirectiveError, Directives, Rejection, parse_model};
use super::frames::StreamFormat;
use super::reply::Reply;
use super::sequence::StatusSequences;

/// The credential that is always refused with 401.
pub(super) const BAD_KEY: &str = "bad-key";
/// Before the status with which a credential is refused.
const BAD_STATUS: &str = "bad-";

/// The model of a request and what is scripted for it.
#[derive(Debug, Clone)]
pub(super) struct Script {
    /// The model as it was sent, directives included.
    model_string: String,
    /// The name before the directives.
    pub model: String,
    pub directives: Directives,
}

/// What went wrong, for a dialect to word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// What the status alone says.
    Status,
    /// The prompt is longer than the model's window.
    Context,
    /// The prompt offends the provider's content policy.
    Policy,
}

/// An error before a dialect has put it into its own shape.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub status: StatusCode,
    pub cause: Cause,
    /// The script's texts; the dialect's own where they are absent.
    pub message: Option<String>,
    pub kind: Option<String>,
    pub code: Option<String>,
    /// The wait that the body names, in seconds.
    pub retry_s: Option<u32>,
}

impl Fault {
    /// What `status` says by itself.
    pub fn of(status: StatusCode) -> Self {
        Self { status, cause: Cause::Status, message: None, kind: None, code: None, retry_s: None }
    }

    /// The same with a sentence.
    pub fn saying(status: StatusCode, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::of(status) }
    }

    /// The script's sentence, or `default`, with the wait in words if the script wants one.
    pub fn sentence(&self, default: &str) -> String {
        let sentence = self.message.as_deref().unwrap_or(default);
        match self.retry_s {
            Some(seconds) => format!("{sentence} Please try again in {seconds}s."),
            None => sentence.to_owned(),
        }
    }
}

/// An error in a dialect's shape.
#[derive(Debug)]
pub(super) struct ErrorAnswer {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Vec<u8>,
}

impl ErrorAnswer {
    /// One without headers of its own.
    pub fn new(status: StatusCode, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body }
    }
}

impl Script {
    /// Reads a model string.
    pub fn parse(model_string: &str) -> Result<Self, DirectiveError> {
        let (model, directives) = parse_model(model_string)?;
        let model = model.to_owned();
        Ok(Self { model_string: model_string.to_owned(), model, directives })
    }

    /// The status of this request in its sequence; asked once, when the request is known to be
    /// valid.
    pub fn status(&self, sequences: &StatusSequences) -> StatusCode {
        let directives = &self.directives;
        let says_error = directives.error.is_some() && !directives.error_200;
        match sequences.next(&self.model_string, &directives.statuses) {
            Some(status) => status,
            None if directives.reject.is_some() => StatusCode::BAD_REQUEST,
            None if says_error && directives.error_frame.is_none() => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            None => StatusCode::OK,
        }
    }

    /// The error of an answer with `status`.
    pub fn fault(&self, status: StatusCode) -> Fault {
        let directives = &self.directives;
        let cause = match directives.reject {
            Some(Rejection::Context) => Cause::Context,
            Some(Rejection::Policy) => Cause::Policy,
            None => Cause::Status,
        };
        Fault {
            status,
            cause: if status.as_u16() == 400 { cause } else { Cause::Status },
            message: directives.error.clone(),
            kind: directives.error_type.clone(),
            code: directives.error_code.clone(),
            retry_s: directives.retry_in_body_s,
        }
    }

    /// The error inside a stream, or under status 200.
    pub fn inner_fault(&self) -> Fault {
        self.fault(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What the script says in place of an answer: an error, a page, nothing. `None`: an answer.
    /// `streams`: how the answer would be framed; `error` writes an error in the dialect's shape.
    pub fn instead(
        &self,
        status: StatusCode,
        streams: Option<StreamFormat>,
        error: impl Fn(&Fault) -> ErrorAnswer,
    ) -> Option<Reply> {
        let directives = &self.directives;
        let reply = if directives.html {
            Reply::html_page(status)
        } else if directives.empty {
            Reply::empty(status, streams)
        } else if directives.error_200 {
            let answer = error(&self.inner_fault());
            Reply::error(ErrorAnswer { status: StatusCode::OK, ..answer })
        } else if status.as_u16() >= 300 {
            Reply::error(error(&self.fault(status)))
        } else {
            return None;
        };
        Some(reply.paced(directives))
    }
}

/// The status with which a credential is refused: it contains `bad-` and a status from 400 to
/// 599, or is [`BAD_KEY`]. `None`: it is as good as any.
pub(super) fn refusal(credential: &str) -> Option<StatusCode> {
    if credential == BAD_KEY {
        return Some(StatusCode::UNAUTHORIZED);
    }
    let statuses = credential.match_indices(BAD_STATUS).filter_map(|(at, _)| {
        let digits = credential.get(at + BAD_STATUS.len()..)?.get(..3)?;
        let code = digits.parse().ok().filter(|code| (400..600).contains(code))?;
        StatusCode::from_u16(code).ok()
    });
    statuses.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_says_how_it_is_refused() {
        let check = |credential: &str, expected: Option<u16>| {
            assert_eq!(refusal(credential).map(|s| s.as_u16()), expected, "{credential}");
        };
        check("bad-key", Some(401));
        check("sk-bad-429", Some(429));
        check("bad-403-second", Some(403));
        check("bad-keys", None);
        check("bad-200", None);
        check("bad-4", None);
        check("sk-good", None);
    }
}
