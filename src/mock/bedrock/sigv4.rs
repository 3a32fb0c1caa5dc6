//! The signature of a request: AWS Signature Version 4, as the server sees it.
//!
//! A request must be signed for the service `bedrock`. For access keys that begin with
//! [`TEST_KEY`] the signature is computed and compared; of any other only the form is checked,
//! because their secrets are unknown here. A bearer token (an Amazon Bedrock API key) will do,
//! too. Source: AWS General Reference, "Create a signed AWS API request".

use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use sha2::{Digest, Sha256};

use super::super::script::{Fault, refusal};
use super::named;

/// Beginning of the access keys whose secret is [`TEST_SECRET`]: the pair of AWS's own examples.
const TEST_KEY: &str = "AKIDEXAMPLE";
const TEST_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "bedrock";
/// Bytes of SHA-256's block.
const BLOCK_BYTES: usize = 64;

/// Refuses a request that carries no valid credential.
pub(super) fn check(parts: &Parts, body: &[u8]) -> Result<(), Fault> {
    let authorization = header_text(parts, header::AUTHORIZATION.as_str());
    let Some((scheme, value)) = authorization.split_once(' ') else {
        let sentence = "Missing Authentication Token";
        return Err(named(StatusCode::FORBIDDEN, "MissingAuthenticationTokenException", sentence));
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        return refusal(value).map_or(Ok(()), |status| Err(Fault::of(status)));
    }
    let signed = Signed::parse(scheme, value).ok_or_else(|| {
        let sentence = "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters.";
        named(StatusCode::BAD_REQUEST, "IncompleteSignatureException", sentence)
    })?;
    if let Some(status) = refusal(signed.access_key) {
        return Err(Fault::of(status));
    }
    if signed.service != SERVICE {
        let sentence = format!("Credential should be scoped to correct service: '{SERVICE}'.");
        return Err(mismatch(&sentence));
    }
    let date = header_text(parts, "x-amz-date");
    if !date.starts_with(signed.date) || date.len() != "20130524T000000Z".len() {
        return Err(mismatch("Date in Credential scope does not match the 'X-Amz-Date' header."));
    }
    if !signed.access_key.starts_with(TEST_KEY) {
        return Ok(());
    }
    if signed.signature == signature(&signed, &canonical_request(parts, body, &signed), &date) {
        return Ok(());
    }
    Err(mismatch(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
    ))
}

fn mismatch(sentence: &str) -> Fault {
    named(StatusCode::FORBIDDEN, "InvalidSignatureException", sentence)
}

fn header_text(parts: &Parts, name: &str) -> String {
    let values = parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let trimmed = values.map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "));
    trimmed.collect::<Vec<_>>().join(",")
}

/// The parts of an `Authorization` header.
struct Signed<'a> {
    access_key: &'a str,
    /// `20130524`
    date: &'a str,
    region: &'a str,
    service: &'a str,
    /// Joined by semicolons.
    headers: &'a str,
    signature: &'a str,
}

impl<'a> Signed<'a> {
    fn parse(scheme: &str, value: &'a str) -> Option<Self> {
        let field = |name: &str| {
            let mut fields = value.split(',').map(str::trim);
            fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        let mut scope = field("Credential")?.rsplit('/');
        let (terminator, service, region, date) =
            (scope.next()?, scope.next()?, scope.next()?, scope.next()?);
        let access_key = scope.next().filter(|_| scope.next().is_none())?;
        let (headers, signature) = (field("SignedHeaders")?, field("Signature")?);
        let is_signature =
            signature.len() == 64 && signature.bytes().all(|b| b.is_ascii_hexdigit());
        let signs_host = headers.split(';').any(|name| name == "host");
        let is_whole =
            scheme == ALGORITHM && terminator == "aws4_request" && !access_key.is_empty();
        (is_whole && is_signature && signs_host).then_some(Self {
            access_key,
            date,
            region,
            service,
            headers,
            signature,
        })
    }
}

fn canonical_request(parts: &Parts, body: &[u8], signed: &Signed<'_>) -> String {
    // HTTP/2 has the host in the URI.
    let host = || parts.uri.authority().map(ToString::to_string).unwrap_or_default();
    let header = |name: &str| match header_text(parts, name) {
        empty if empty.is_empty() && name == "host" => format!("host:{}\n", host()),
        value => format!("{name}:{value}\n"),
    };
    let headers: String = signed.headers.split(';').map(header).collect();
    let mut query: Vec<&str> = parts.uri.query().unwrap_or_default().split('&').collect();
    query.sort_unstable();
    let payload_hash = match header_text(parts, "x-amz-content-sha256") {
        unsigned if unsigned == "UNSIGNED-PAYLOAD" => unsigned,
        _ => hex(&Sha256::digest(body)),
    };
    format!(
        "{}\n{}\n{}\n{headers}\n{}\n{payload_hash}",
        parts.method,
        encoded_path(parts.uri.path()),
        query.join("&"),
        signed.headers,
    )
}

/// The path as it was sent, encoded once more: every service but S3 wants that.
fn encoded_path(path: &str) -> String {
    let mut encoded = String::new();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(byte.into());
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn signature(signed: &Signed<'_>, canonical_request: &str, date: &str) -> String {
    let Signed { date: day, region, service, .. } = signed;
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let request_hash = hex(&Sha256::digest(canonical_request.as_bytes()));
    let text = format!("{ALGORITHM}\n{date}\n{scope}\n{request_hash}");
    let first = format!("AWS4{TEST_SECRET}").into_bytes();
    let steps = [*day, *region, *service, "aws4_request"];
    let key = steps.iter().fold(first, |key, part| hmac(&key, part.as_bytes()).to_vec());
    hex(&hmac(&key, text.as_bytes()))
}

/// HMAC-SHA-256 (RFC 2104) for keys of at most one block.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let padded = |pad: u8| {
        let key = key.iter().copied().chain(std::iter::repeat(0)).take(BLOCK_BYTES);
        key.map(move |byte| byte ^ pad).collect::<Vec<u8>>()
    };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn hmac_follows_rfc_4231() {
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(&hmac(b"Jefe", b"what do ya want for nothing?")), expected);
    }

    /// `get-vanilla` of AWS's test suite for Signature Version 4.
    #[test]
    fn a_signature_equals_that_of_the_test_suite() {
        let request = Request::builder()
            .uri("/")
            .header("host", "example.amazonaws.com")
            .header("x-amz-date", "20150830T123600Z");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let expected = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        let value = format!(
            "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature={expected}"
        );
        let signed = Signed::parse(ALGORITHM, &value).unwrap();
        let canonical = canonical_request(&parts, b"", &signed);
        assert_eq!(signature(&signed, &canonical, "20150830T123600Z"), expected);
    }

    #[test]
    fn a_credential_that_is_not_whole_is_refused() {
        let check = |value: &str| assert!(Signed::parse(ALGORITHM, value).is_none(), "{value}");
        check("Credential=A/20150830/r/bedrock/aws4_request");
        check("Credential=A/r/bedrock/aws4_request, SignedHeaders=host, Signature=00");
        let signature = "0".repeat(64);
        check(&format!(
            "Credential=A/20150830/r/bedrock/aws5, SignedHeaders=host, Signature={signature}"
        ));
    }
}
