//! `tls_certificate` and `tls_key` → what a listener shows its callers.

use std::{fmt, path::Path, path::PathBuf, sync::Arc};

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
    /// The files of the certificate and of the key, to see when they change.
    pub files: [PathBuf; 2],
    /// What handshakes need: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    pub handshake: Arc<rustls::ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
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
}
