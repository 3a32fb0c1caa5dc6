//! `[admin]` → where the admin API listens and who may use it.

use std::{fmt, net::SocketAddr, path::Path};

use sha2::{Digest as _, Sha256};

use super::{
    build::Environment,
    reader::{Located, Section},
    secrets::in_file,
    tls::{Tls, tls},
};
use crate::ledger::secret::same;

/// The variable of the master token, when the table names nothing.
const TOKEN_ENV: &str = "WEIGHBRIDGE_ADMIN_TOKEN";
/// Shortest token, in bytes (chosen: 16 random characters of base64 are 96 bits).
const MIN_TOKEN_BYTES: usize = 16;

/// `[admin]`
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Where the admin API listens.
    pub listen: SocketAddr,
    /// What it shows callers; `None` speaks plain HTTP.
    pub tls: Option<Tls>,
    /// Opens everything.
    pub master: Option<Token>,
    /// Opens what only reads.
    pub viewer: Option<Token>,
}

impl AdminConfig {
    /// Whether anybody could be let in: without a token there is no listener.
    pub fn has_token(&self) -> bool {
        self.master.is_some() || self.viewer.is_some()
    }
}

/// A token, kept as its SHA-256: it never prints, and comparing tells nothing of its length.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// Keeps the hash of a token's text.
    pub fn new(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Whether `shown` is this token, in a time that does not tell where they differ.
    pub fn is(&self, shown: &str) -> bool {
        *self == Self::new(shown)
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        same(&self.0, &other.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Reads the table. Paths in it are relative to `directory`.
pub fn admin(section: Section<'_>, directory: &Path, environment: Environment<'_>) -> AdminConfig {
    let tls = tls(&section, directory);
    let listen = listen(&section, tls.is_some());
    let reader = Tokens { section: &section, directory, environment };
    let master = reader.read("token_env", "token_file", Some(TOKEN_ENV));
    let viewer = reader.read("viewer_token_env", "viewer_token_file", None);
    if let (Some(master), Some(viewer)) = (&master, &viewer)
        && master.value == viewer.value
    {
        let message = "is the master token, so a viewer could change everything".to_owned();
        let suggestion = "give viewers a token of their own".to_owned();
        section.error(viewer.span.clone(), "viewer_token_env", message, Some(suggestion));
    }
    let token = |text: Option<Located<String>>| text.map(|text| Token::new(&text.value));
    let config = AdminConfig { listen, tls, master: token(master), viewer: token(viewer) };
    section.finish();
    config
}

fn listen(section: &Section<'_>, is_encrypted: bool) -> SocketAddr {
    let default = SocketAddr::from(([127, 0, 0, 1], 8081));
    let Some(listen) = section.str("listen") else { return default };
    let Ok(address) = listen.value.parse::<SocketAddr>() else {
        let message = format!("`{}` is not an address", listen.value);
        let suggestion = "write an IP address and a port, like \"127.0.0.1:8081\"".to_owned();
        section.error(listen.span, "listen", message, Some(suggestion));
        return default;
    };
    if !address.ip().is_loopback() && !is_encrypted {
        let message = format!("whoever listens in on the way to {address} reads the admin token");
        let suggestion = "listen on 127.0.0.1, or set `tls_certificate` and `tls_key`, or let only a proxy with TLS reach it";
        section.warn(listen.span, "listen", message, Some(suggestion.to_owned()));
    }
    address
}

/// Reads tokens from where the table says that they are.
struct Tokens<'r, 'a> {
    section: &'r Section<'a>,
    directory: &'r Path,
    environment: Environment<'r>,
}

impl Tokens<'_, '_> {
    /// The token of a variable or a file; `usual` is the variable when the table names neither.
    fn read(
        &self,
        env_key: &'static str,
        file_key: &'static str,
        usual: Option<&str>,
    ) -> Option<Located<String>> {
        let (named, file) = (self.section.str(env_key), self.section.str(file_key));
        if let (Some(named), Some(_)) = (&named, &file) {
            let message = format!("and `{file_key}` cannot both hold the token");
            let suggestion = Some("keep one of them".to_owned());
            self.section.error(named.span.clone(), env_key, message, suggestion);
            return None;
        }
        let (key, found) = match file {
            Some(file) => (file_key, in_file(self.section, file_key, file, self.directory)?),
            None => {
                let usual = || usual.map(|name| self.located(name));
                (env_key, self.in_variable(env_key, named.or_else(usual)?)?)
            }
        };
        let bytes = found.value.len();
        if bytes < MIN_TOKEN_BYTES || !found.value.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = format!(
                "holds {bytes} bytes; a token has at least {MIN_TOKEN_BYTES} printable ASCII \
                 characters and no spaces"
            );
            let suggestion = "`openssl rand -base64 32` makes one".to_owned();
            self.section.error(found.span, key, message, Some(suggestion));
            return None;
        }
        Some(found)
    }

    fn located(&self, name: &str) -> Located<String> {
        Located { value: name.to_owned(), span: self.section.span() }
    }

    fn in_variable(&self, key: &str, name: Located<String>) -> Option<Located<String>> {
        let value = (self.environment)(&name.value).unwrap_or_default().trim().to_owned();
        if value.is_empty() {
            let message = format!("the environment variable `{}` is not set", name.value);
            let suggestion = "without it nobody is let in: without any token the admin API does \
                              not listen";
            self.section.warn(name.span, key, message, Some(suggestion.to_owned()));
            return None;
        }
        Some(Located { value, span: name.span })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const MODEL: &str = "[providers.p]\ndialect = \"openai\"\nbase_url = \"http://a/v1\"\n\
                         [models.m]\nprovider = \"p\"\n";

    /// The table's configuration, and what is said of it.
    fn read(table: &str, directory: &Path) -> (Option<AdminConfig>, String) {
        let variable = |name: &str| match name {
            "WEIGHBRIDGE_ADMIN_TOKEN" => Some("0123456789abcdef".to_owned()),
            "OTHER" => Some("fedcba9876543210".to_owned()),
            "SHORT" => Some("0123456789abcde".to_owned()),
            "SPACED" => Some("0123456789 abcdef".to_owned()),
            _ => None,
        };
        let text = format!("{MODEL}[admin]\n{table}");
        match parse(&text, &directory.join("w.toml"), &variable) {
            Ok(checked) => (checked.config.admin, checked.warnings.to_string()),
            Err(error) => (None, error.to_string()),
        }
    }

    #[test]
    fn a_token_opens_by_itself_alone_and_never_prints() {
        let (config, _) = read("viewer_token_env = \"OTHER\"", Path::new(""));
        let config = config.unwrap();
        let (master, viewer) = (config.master.as_ref().unwrap(), config.viewer.as_ref().unwrap());
        assert!(master.is("0123456789abcdef") && viewer.is("fedcba9876543210"));
        for wrong in ["", "0123456789abcde", "0123456789abcdef0", "fedcba9876543210"] {
            assert!(!master.is(wrong), "{wrong}");
        }
        let printed = format!("{config:?}");
        assert!(printed.contains("[redacted]") && !printed.contains("0123456789"), "{printed}");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8081");
    }

    #[test]
    fn what_keeps_the_door_shut_or_opens_it_too_wide_is_said() {
        for (table, expected) in [
            ("token_env = \"UNSET\"", "the environment variable `UNSET` is not set"),
            ("token_env = \"SHORT\"", "holds 15 bytes; a token has at least 16"),
            ("token_env = \"SPACED\"", "holds 17 bytes"),
            ("viewer_token_env = \"WEIGHBRIDGE_ADMIN_TOKEN\"", "is the master token"),
            ("token_file = \"none\"", "`none` cannot be read"),
            ("token_env = \"OTHER\"\ntoken_file = \"x\"", "cannot both hold the token"),
            ("listen = \"0.0.0.0:8081\"", "warning: admin.listen: whoever listens in"),
            ("listen = \"8081\"", "`8081` is not an address"),
            ("tokn_env = \"X\"", "did you mean `token_env`?"),
        ] {
            let (_, said) = read(table, Path::new(""));
            assert!(said.contains(expected), "{table}: {said}");
        }
        let (config, _) = read("token_env = \"UNSET\"", Path::new(""));
        assert!(!config.unwrap().has_token());
    }

    #[test]
    fn a_token_may_lie_in_a_file_beside_the_configuration() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("token"), "from-a-file-0123456\n").unwrap();
        let (config, said) = read("token_file = \"token\"", directory.path());
        assert!(config.unwrap().master.unwrap().is("from-a-file-0123456"), "{said}");
    }
}
