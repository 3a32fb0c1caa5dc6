//! AWS's signature over a request (SigV4), through AWS's own signer.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};

use super::{AwsKeys, UpstreamError};

/// The service that a Bedrock request is signed for.
const SERVICE: &str = "bedrock";

/// Adds the headers that sign a POST of `body` to `url`. `headers` are signed where they are
/// content types; others may be changed on the way.
pub fn add_signature(
    keys: &AwsKeys,
    region: &str,
    url: &Url,
    body: &[u8],
    headers: &mut HeaderMap,
    now: SystemTime,
) -> Result<(), UpstreamError> {
    let failed = |error: &dyn std::fmt::Display| {
        UpstreamError::Connect(format!("the request cannot be signed: {error}"))
    };
    let identity = Credentials::new(
        &keys.access_key,
        &keys.secret_key,
        keys.session_token.clone(),
        None,
        "weighbridge",
    )
    .into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| failed(&error))?
        .into();
    let host = url.host_str().unwrap_or_default();
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let signed_headers = [("content-type", "application/json"), ("host", host.as_str())];
    let request = SignableRequest::new(
        "POST",
        url.as_str(),
        signed_headers.into_iter(),
        SignableBody::Bytes(body),
    )
    .map_err(|error| failed(&error))?;
    let (instructions, _) =
        sign(request, &parameters).map_err(|error| failed(&error))?.into_parts();
    for (name, value) in instructions.headers() {
        let name = HeaderName::try_from(name).map_err(|error| failed(&error))?;
        let mut value = HeaderValue::try_from(value).map_err(|error| failed(&error))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_signature_names_key_date_region_and_service_and_hides_the_secret() {
        let keys = AwsKeys {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: Some("token".to_owned()),
        };
        let url =
            Url::parse("https://bedrock-runtime.eu-west-1.amazonaws.com/model/a%3A0/converse")
                .unwrap();
        let mut headers = HeaderMap::new();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        add_signature(&keys, "eu-west-1", &url, b"{}", &mut headers, now).unwrap();
        let authorization = headers["authorization"].to_str().unwrap();
        assert!(
            authorization.starts_with(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20231114/eu-west-1/bedrock/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="
            ),
            "{authorization}"
        );
        assert_eq!(headers["x-amz-security-token"], "token");
        assert!(!format!("{headers:?}").contains("AKIDEXAMPLE"));
    }
}
