//! Images that callers name by address, fetched for providers that take bytes only.
//!
//! A caller must reach nothing through the gateway that it could not reach by itself. So a
//! [`Fetcher`] asks public addresses only ([`is_public`]), at every redirect anew; it sends nothing
//! of the caller's; it takes no more than it was told to, and only what begins as an image does.
//! An [`ImageError`] says the same of an address that is refused and of one where nobody answers.
//! Which images a request needs is the gateway's to know.

mod address;
mod fetch;

use std::{net::IpAddr, time::Duration};

pub use address::is_public;
pub use fetch::Fetcher;

/// Images fetched for one request (chosen: Bedrock Converse takes no more; "ContentBlock").
pub const MAX_IMAGES: usize = 20;

/// Which addresses may be asked.
pub type Reach = fn(IpAddr) -> bool;

/// How images are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSettings {
    /// Largest image.
    pub max_bytes: usize,
    /// Most that all images of one request hold together.
    pub max_total_bytes: usize,
    /// How long all images of one request may take together.
    pub timeout: Duration,
    /// Hosts that may be asked, in lower case; `*.` before a name means every host under it.
    /// Empty allows every public host.
    pub allow_hosts: Vec<String>,
}

/// An image as providers take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// As its first bytes say: `image/png`, `image/jpeg`, `image/gif` or `image/webp`.
    pub media_type: &'static str,
    /// Standard base64.
    pub data: String,
}

/// Why an image was not fetched; the text goes on from the name of its field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Not an address that is ever asked.
    #[error("is not an http or https URL without user name and password")]
    Url,
    /// The operator lists the hosts that are asked, and this is none of them.
    #[error("is at a host that this gateway does not fetch images from")]
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
    #[error("is larger than the {0} bytes that are fetched of one image")]
    TooLarge(usize),
    /// All of a request's images are too large together.
    #[error("makes the request's images larger than the {0} bytes that are fetched of all")]
    AllTooLarge(usize),
    /// There are more than [`MAX_IMAGES`].
    #[error("is one image by address too many: at most {MAX_IMAGES} of a request are fetched")]
    TooMany,
    /// What came does not begin as an image does.
    #[error("is not a PNG, JPEG, GIF or WebP image")]
    NotAnImage,
}

impl ImageError {
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
        }
    }
}

/// The kind of an image by its first bytes (PNG, section 5.2; JPEG, B.1.1.3; GIF89a, section 17;
/// RFC 9649, section 2.4). What a server says of it is not asked.
fn media_type(bytes: &[u8]) -> Option<&'static str> {
    Some(match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_its_first_bytes() {
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
            assert_eq!(media_type(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn an_address_that_is_refused_reads_like_one_where_nobody_answers() {
        let told = ImageError::Refused.to_string();
        assert_eq!(ImageError::Unreachable.to_string(), told);
        assert_eq!(ImageError::Late.to_string(), told);
    }
}
