//! Images and documents that callers name by address, fetched for providers that take bytes only.
//!
//! A caller must reach nothing through the gateway that it could not reach by itself. So a
//! [`Fetcher`] asks public addresses only ([`is_public`]), at every redirect anew; it sends nothing
//! of the caller's; it takes no more than it was told to, and only what begins as its kind does.
//! A [`FetchError`] says the same of an address that is refused and of one where nobody answers.
//! What a request needs is the gateway's to know.

mod address;
mod fetch;

use std::{net::IpAddr, time::Duration};

pub use address::is_public;
pub use fetch::Fetcher;

use crate::protocol::neutral::MediaKind;

/// Images, and documents, fetched for one request (chosen: Bedrock Converse takes no more images;
/// "ContentBlock").
pub const MAX_FETCHED: usize = 20;

/// Which addresses may be asked.
pub type Reach = fn(IpAddr) -> bool;

/// How images are fetched, or documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSettings {
    /// Largest one.
    pub max_bytes: usize,
    /// Most that all images and documents of one request hold together.
    pub max_total_bytes: usize,
    /// How long all of one request may take together.
    pub timeout: Duration,
    /// Hosts that may be asked, in lower case; `*.` before a name means every host under it.
    /// Empty allows every public host.
    pub allow_hosts: Vec<String>,
}

/// An image or a document as providers take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// As its first bytes say: `image/png`, `image/jpeg`, `image/gif` or `image/webp`;
    /// `application/pdf`.
    pub media_type: &'static str,
    /// Standard base64.
    pub data: String,
}

/// Why something was not fetched; the text goes on from the name of its field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Not an address that is ever asked.
    #[error("is not an http or https URL without user name and password")]
    Url,
    /// The operator lists the hosts that are asked, and this is none of them.
    #[error("is at a host that this gateway does not fetch from")]
    Host,
    /// The address is not public, or a redirect leads to one that is not.
    #[error("cannot be fetched: no public address answers with it in time")]
    Refused,
    /// Nobody answered, or not with success. The text is that of a refused address, which must
    /// not be told apart from it.
    #[error("cannot be fetched: no public address answers with it in time")]
    Unreachable,
    /// It was not there in time. The text is that of an address where nobody answers.
    #[error("cannot be fetched: no public address answers with it in time")]
    Late,
    /// It is too large.
    #[error("is larger than the {0} bytes that are fetched of one")]
    TooLarge(usize),
    /// All that a request names is too large together.
    #[error("makes what the request names by address larger than the {0} bytes that are fetched")]
    AllTooLarge(usize),
    /// There are more than [`MAX_FETCHED`].
    #[error("is one address too many: at most {MAX_FETCHED} of a request are fetched")]
    TooMany,
    /// What came does not begin as an image does.
    #[error("is not a PNG, JPEG, GIF or WebP image")]
    NotAnImage,
    /// What came does not begin as a document does that providers take.
    #[error("is not a PDF document")]
    NotADocument,
}

impl FetchError {
    /// Its name in metrics and in the log.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Url => "bad_url",
            Self::Host => "host_not_allowed",
            Self::Refused => "refused_address",
            Self::Unreachable => "unreachable",
            Self::Late => "timeout",
            Self::TooLarge(_) => "too_large",
            Self::AllTooLarge(_) => "all_too_large",
            Self::TooMany => "too_many",
            Self::NotAnImage => "not_an_image",
            Self::NotADocument => "not_a_document",
        }
    }
}

/// What something is by its first bytes (PNG, section 5.2; JPEG, B.1.1.3; GIF89a, section 17;
/// RFC 9649, section 2.4; ISO 32000-2, 7.5.2). What a server says of it is not asked.
fn media_type(kind: MediaKind, bytes: &[u8]) -> Result<&'static str, FetchError> {
    match (kind, bytes) {
        (MediaKind::Document, [b'%', b'P', b'D', b'F', b'-', ..]) => Ok("application/pdf"),
        (MediaKind::Document, _) => Err(FetchError::NotADocument),
        (MediaKind::Image, _) => match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok("image/png"),
            [0xff, 0xd8, 0xff, ..] => Ok("image/jpeg"),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok("image/gif"),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok("image/webp"),
            _ => Err(FetchError::NotAnImage),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_documents_are_known_by_their_first_bytes() {
        for (bytes, expected) in [
            (&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], Some("image/png")),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", Some("image/jpeg")),
            (b"GIF89a\x01\0", Some("image/gif")),
            (b"GIF87a\x01\0", Some("image/gif")),
            (b"RIFF\x24\0\0\0WEBPVP8 ", Some("image/webp")),
            (b"RIFF\x24\0\0\0WAVEfmt ", None),
            (b"GIF88a\x01\0", None),
            (b"<svg xmlns=", None),
            (b"\x1f\x8b\x08\0", None),
            (b"\x89PNG", None),
            (b"", None),
        ] {
            let found = media_type(MediaKind::Image, bytes);
            assert_eq!(found, expected.ok_or(FetchError::NotAnImage), "{bytes:?}");
        }
        for (bytes, expected) in [
            (&b"%PDF-1.7\n"[..], Ok("application/pdf")),
            (b"\n%PDF-1.7", Err(FetchError::NotADocument)),
            (b"%PDF", Err(FetchError::NotADocument)),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", Err(FetchError::NotADocument)),
            (b"<html>", Err(FetchError::NotADocument)),
            (b"", Err(FetchError::NotADocument)),
        ] {
            assert_eq!(media_type(MediaKind::Document, bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn an_address_that_is_refused_reads_like_one_where_nobody_answers() {
        let told = FetchError::Refused.to_string();
        assert_eq!(FetchError::Unreachable.to_string(), told);
        assert_eq!(FetchError::Late.to_string(), told);
    }
}
