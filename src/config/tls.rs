//! `tls_certificate` and `tls_key` → what a listener shows its callers.

use std::{fmt, path::Path, path::PathBuf, sync::Arc};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use rustls::{
    Error, InconsistentKeys,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

use super::reader::{Located, Section};

/// Protocols in the order of preference (RFC 7301; RFC 9113 §3.2).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate with its key. The key is in memory only, and never prints.
#[derive(Clone)]
pub struct Tls {
    /// The files of the certificate and of the key.
    pub files: [PathBuf; 2],
    /// What handshakes need: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    pub handshake: Arc<rustls::ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The files that a configuration names for its listeners, also one that does not work; none of
/// one that is no TOML.
pub fn tls_files_named_in(config: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(config).unwrap_or_default();
    let root: toml::Table = text.parse().unwrap_or_default();
    let directory = config.parent().unwrap_or(Path::new(""));
    let tables = ["server", "admin"].iter().filter_map(|name| root.get(*name));
    let names = tables.flat_map(|table| [table.get("tls_certificate"), table.get("tls_key")]);
    names.flatten().filter_map(toml::Value::as_str).map(|name| directory.join(name)).collect()
}

/// Reads the two keys of a listener's table. Paths are relative to `directory`.
pub fn tls(section: &Section<'_>, directory: &Path) -> Option<Tls> {
    let named = (section.str("tls_certificate"), section.str("tls_key"));
    let (certificate, key) = match named {
        (None, None) => return None,
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(one), None) => return missing(section, one, "tls_certificate", "tls_key"),
        (None, Some(one)) => return missing(section, one, "tls_key", "tls_certificate"),
    };
    let files = Files { section, directory };
    let chain = files.certificates(&certificate);
    files.warn_of_end(&certificate, chain.as_deref());
    let signer = files.signer(&key);
    let identity = CertifiedKey::new(chain?, signer?);
    if !files.belong_together(&identity, &certificate, &key) {
        return None;
    }
    let paths = [directory.join(certificate.value), directory.join(key.value)];
    let resolver = Arc::new(SingleCertAndKey::from(identity));
    let builder = rustls::ServerConfig::builder_with_provider(ring::default_provider().into());
    let mut handshake = match builder.with_protocol_versions(&[&TLS13, &TLS12]) {
        Ok(builder) => builder.with_no_client_auth().with_cert_resolver(resolver),
        Err(error) => {
            section.error(certificate.span, "tls_certificate", error.to_string(), None);
            return None;
        }
    };
    handshake.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
    Some(Tls { files: paths, handshake: handshake.into() })
}

fn missing(
    section: &Section<'_>,
    found: Located<String>,
    key: &'static str,
    lacks: &str,
) -> Option<Tls> {
    let message = format!("needs `{lacks}` beside it");
    let suggestion = "name the certificate's file and its private key's, or neither".to_owned();
    section.error(found.span, key, message, Some(suggestion));
    None
}

/// Reads PEM files. What is in them is not repeated: a key may lie where a certificate should.
struct Files<'r, 'a> {
    section: &'r Section<'a>,
    directory: &'r Path,
}

impl Files<'_, '_> {
    /// The chain, the server's own certificate first.
    fn certificates(&self, path: &Located<String>) -> Option<Vec<CertificateDer<'static>>> {
        let text = self.text("tls_certificate", path)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        if chain.is_none() {
            let suggestion = "it takes PEM: the server's certificate, then those that signed it";
            self.refuse("tls_certificate", path, "holds no certificate", suggestion);
        }
        chain
    }

    /// An expired certificate is shown all the same: whoever does not look at dates is served.
    fn warn_of_end(&self, path: &Located<String>, chain: Option<&[CertificateDer<'_>]>) {
        let end = chain.and_then(|chain| not_after(chain.first()?));
        if let Some(end) = end.filter(|end| *end < Timestamp::now()) {
            let message = format!("`{}` has expired on {end}", path.value);
            let suggestion = Some("callers will refuse it: renew it".to_owned());
            self.section.warn(path.span.clone(), "tls_certificate", message, suggestion);
        }
    }

    fn signer(&self, path: &Located<String>) -> Option<Arc<dyn SigningKey>> {
        let text = self.text("tls_key", path)?;
        let Ok(key) = PrivateKeyDer::from_pem_slice(&text) else {
            let suggestion = "it takes a PEM key without a passphrase (PKCS #8, PKCS #1 or SEC 1)";
            self.refuse("tls_key", path, "holds no private key", suggestion);
            return None;
        };
        let signer = ring::sign::any_supported_type(&key);
        if signer.is_err() {
            let suggestion = "use ECDSA (P-256, P-384), Ed25519 or RSA of 2048 to 8192 bits";
            self.refuse("tls_key", path, "holds a key of a kind that cannot sign here", suggestion);
        }
        signer.ok()
    }

    fn belong_together(
        &self,
        identity: &CertifiedKey,
        certificate: &Located<String>,
        key: &Located<String>,
    ) -> bool {
        match identity.keys_match() {
            // Of a key that does not say its public half nothing can be said.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => return true,
            Err(Error::InconsistentKeys(_)) => {
                let message = format!("is not the key of `{}`", certificate.value);
                let suggestion = "name the key that the certificate was made for; its own \
                                  certificate comes first in a file that holds several";
                self.refuse("tls_key", key, &message, suggestion);
            }
            Err(error) => {
                let message = format!("cannot be shown to callers: {error}");
                let suggestion = "use an X.509 certificate of version 3";
                self.refuse("tls_certificate", certificate, &message, suggestion);
            }
        }
        false
    }

    fn text(&self, key: &'static str, path: &Located<String>) -> Option<Vec<u8>> {
        let text = std::fs::read(self.directory.join(&path.value));
        if let Err(error) = &text {
            let message = format!("cannot be read: {error}");
            let suggestion = "name a file that the gateway's user may read, relative to the \
                              configuration";
            self.refuse(key, path, &message, suggestion);
        }
        text.ok()
    }

    fn refuse(&self, key: &str, path: &Located<String>, message: &str, suggestion: &str) {
        let message = format!("`{}` {message}", path.value);
        self.section.error(path.span.clone(), key, message, Some(suggestion.to_owned()));
    }
}

/// Until when a certificate is valid (RFC 5280 §4.1); `None` of one that is not understood.
fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    /// `[0] EXPLICIT`, before the version where there is one.
    const VERSION: u8 = 0xa0;
    const UTC_TIME: u8 = 0x17;
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    // Serial number, signature, issuer.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (_, validity, _) = element(fields)?;
    let (_, _, after_not_before) = element(validity)?;
    let (tag, text, _) = element(after_not_before)?;
    let text = std::str::from_utf8(text).ok()?;
    let century = match tag {
        UTC_TIME if text.get(..2)? < "50" => "20",
        UTC_TIME => "19",
        _ => "",
    };
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", format!("{century}{text}")).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The first element of DER (X.690 §8.1): its tag, what is in it, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        let longer = |length: usize, byte: &u8| {
            length.checked_mul(256).map(|length| length + usize::from(*byte))
        };
        (bytes.iter().try_fold(0, longer)?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::generate_simple_self_signed;

    use super::*;
    use crate::config::{Config, parse};

    const MODEL: &str = "[providers.p]\ndialect = \"openai\"\nbase_url = \"http://a/v1\"\n\
                         [models.m]\nprovider = \"p\"\n";

    /// A directory with two certificates, their keys, and files that are neither.
    fn directory() -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let mut keys = Vec::new();
        for name in ["a", "b"] {
            let made = generate_simple_self_signed([name.to_owned()]).unwrap();
            write(&format!("{name}.pem"), &made.cert.pem());
            write(&format!("{name}.key"), &made.signing_key.serialize_pem());
            keys.push(made.signing_key.serialize_pem());
        }
        write("text", "no PEM");
        write("cut", keys[0].get(..90).unwrap());
        write("bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        write("bad.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        (directory, keys.swap_remove(0))
    }

    fn read(table: &str, lines: &str, directory: &Path) -> Result<Config, String> {
        let text = format!("{MODEL}[{table}]\n{lines}");
        let token = |_: &str| Some("0123456789abcdef".to_owned());
        let checked = parse(&text, &directory.join("w.toml"), &token);
        checked.map(|checked| checked.config).map_err(|error| error.to_string())
    }

    #[test]
    fn both_listeners_take_a_certificate_and_the_key_never_prints() {
        let (directory, secret) = directory();
        let lines = "tls_certificate = \"a.pem\"\ntls_key = \"a.key\"\n";
        let server = read("server", lines, directory.path()).unwrap();
        let admin = read("admin", lines, directory.path()).unwrap();
        let tls = server.server.tls.as_ref().unwrap();
        assert_eq!(tls.files, ["a.pem", "a.key"].map(|name| directory.path().join(name)));
        assert_eq!(tls.handshake.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert!(admin.admin.as_ref().unwrap().tls.is_some());
        let printed = format!("{server:?}{admin:?}");
        assert!(printed.contains("a.key"), "{printed}");
        let lines = secret.lines().filter(|line| !line.starts_with('-'));
        for line in lines {
            assert!(!printed.contains(line), "{printed}");
        }
    }

    #[test]
    fn what_cannot_be_shown_to_callers_is_said_with_its_key_and_the_way_out() {
        let (directory, _) = directory();
        for (certificate, key, expected) in [
            ("a.pem", "", "error: server.tls_certificate: needs `tls_key` beside it"),
            ("", "a.key", "error: server.tls_key: needs `tls_certificate` beside it"),
            ("none", "a.key", "w.toml:7:19: error: server.tls_certificate: `none` cannot be read"),
            ("a.pem", "none", "w.toml:8:11: error: server.tls_key: `none` cannot be read"),
            ("text", "a.key", "tls_certificate: `text` holds no certificate"),
            ("a.key", "a.key", "tls_certificate: `a.key` holds no certificate"),
            ("bad.pem", "a.key", "tls_certificate: `bad.pem` cannot be shown to callers"),
            ("a.pem", "a.pem", "tls_key: `a.pem` holds no private key"),
            ("a.pem", "cut", "tls_key: `cut` holds no private key"),
            ("a.pem", "bad.key", "tls_key: `bad.key` holds a key of a kind"),
            (
                "a.pem",
                "b.key",
                "w.toml:8:11: error: server.tls_key: `b.key` is not the key of `a.pem`",
            ),
        ] {
            let line = |name: &str, file: &str| match file {
                "" => "\n".to_owned(),
                file => format!("{name} = \"{file}\"\n"),
            };
            let lines = line("tls_certificate", certificate) + &line("tls_key", key);
            let said = read("server", &lines, directory.path()).unwrap_err();
            assert!(said.contains(expected) && said.contains("help: "), "{lines}: {said}");
        }
    }

    #[test]
    fn an_expired_certificate_is_warned_of() {
        let directory = tempfile::tempdir().unwrap();
        for (year, expected) in [(2020, true), (2040, false), (2060, false)] {
            let mut wanted = rcgen::CertificateParams::new(["a".to_owned()]).unwrap();
            wanted.not_before = rcgen::date_time_ymd(2019, 1, 1);
            wanted.not_after = rcgen::date_time_ymd(year, 3, 4);
            let key = rcgen::KeyPair::generate().unwrap();
            let made = wanted.self_signed(&key).unwrap();
            let end = not_after(made.der()).unwrap().to_string();
            assert_eq!(end, format!("{year}-03-04T00:00:00Z"));
            fs::write(directory.path().join("a.pem"), made.pem()).unwrap();
            fs::write(directory.path().join("a.key"), key.serialize_pem()).unwrap();
            let lines = "tls_certificate = \"a.pem\"\ntls_key = \"a.key\"\n";
            let text = format!("[server]\n{lines}{MODEL}");
            let checked = parse(&text, &directory.path().join("w.toml"), &|_: &str| None).unwrap();
            let said = checked.warnings.to_string();
            let warns = said.contains("`a.pem` has expired on 2020-03-04T00:00:00Z");
            assert_eq!(warns, expected, "{said}");
        }
        assert_eq!(not_after(b"\x30\x82\xff"), None);
    }
}
