//! Secrets that the configuration names but does not hold: a file's text, or what a command prints.

use std::{
    io::{self, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::reader::{Located, Section};

/// How long a command may take (chosen: a password store that asks its server, not a person).
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Most bytes of a file or of what a command prints; no secret is longer.
const MAX_BYTES: u64 = 64 * 1024;

/// The text of a file, without white space at its ends. The path is relative to `directory`.
pub fn in_file(
    section: &Section<'_>,
    key: &str,
    path: Located<String>,
    directory: &Path,
) -> Option<Located<String>> {
    let text = std::fs::File::open(directory.join(&path.value)).and_then(text_of);
    match text {
        Ok(value) => Some(Located { value, span: path.span }),
        Err(error) => {
            let message = format!("`{}` cannot be read: {error}", path.value);
            section.error(path.span, key, message, None);
            None
        }
    }
}

/// What a program prints, without white space at its ends. `words` are its name and its arguments,
/// given to no shell; it starts in `directory` and its errors go where the gateway's go.
pub fn from_command(
    section: &Section<'_>,
    key: &str,
    words: &[Located<String>],
    directory: &Path,
) -> Option<Located<String>> {
    let Some((program, arguments)) = words.split_first() else {
        let message = "names no program".to_owned();
        let suggestion = Some("write it like [\"pass\", \"show\", \"openai\"]".to_owned());
        section.error(section.span(), key, message, suggestion);
        return None;
    };
    let mut command = Command::new(&program.value);
    command.args(arguments.iter().map(|word| &word.value));
    match printed(command.current_dir(directory)) {
        Ok(value) if !value.is_empty() => Some(Located { value, span: program.span.clone() }),
        said => {
            let why = said.err().map_or("it prints nothing".to_owned(), |error| error.to_string());
            let message = format!("`{}`: {why}", program.value);
            let suggestion = "the command has to print the key, and nothing else, within 10 s";
            section.error(program.span.clone(), key, message, Some(suggestion.to_owned()));
            None
        }
    }
}

fn printed(command: &mut Command) -> io::Result<String> {
    // An empty directory is the current one.
    if command.get_current_dir().is_some_and(|directory| directory.as_os_str().is_empty()) {
        command.current_dir(".");
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let (tell, told) = mpsc::channel();
    if let Some(out) = child.stdout.take() {
        // It ends with the program's output; whoever waits for it may have left.
        thread::spawn(move || drop(tell.send(text_of(out))));
    }
    let until = Instant::now() + TIMEOUT;
    let status = ended(&mut child, until)?;
    if !status.success() {
        return Err(io::Error::other(status.to_string()));
    }
    let left = until.saturating_duration_since(Instant::now());
    told.recv_timeout(left).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Waits; a program that takes too long is killed.
fn ended(child: &mut Child, until: Instant) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn text_of(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is longer than {MAX_BYTES} bytes")));
    }
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{config::parse, upstream::Credential};

    /// The provider's credentials, and what is said of its table.
    fn read(table: &str, directory: &Path) -> (Vec<Credential>, String) {
        let text = format!(
            "[providers.p]\ndialect = \"openai\"\nbase_url = \"http://a/v1\"\n{table}\n\
             [models.m]\nprovider = \"p\"\n"
        );
        match parse(&text, &directory.join("w.toml"), &|_| None) {
            Ok(checked) => {
                let deployment = &checked.config.providers[0].deployments[0];
                (deployment.credentials.clone(), checked.warnings.to_string())
            }
            Err(error) => (Vec::new(), error.to_string()),
        }
    }

    #[test]
    fn a_key_comes_from_a_file_or_a_command_and_never_prints() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "sk-of-the-file\n").unwrap();
        for table in [
            "api_key_file = \"key\"",
            "api_key_command = [\"cat\", \"key\"]",
            "deployments = [{ base_url = \"http://b/v1\", api_key_command = [\"cat\", \"key\"] }]",
        ] {
            let (found, said) = read(table, dir.path());
            let [Credential::Header(name, value)] = found.as_slice() else {
                panic!("{table}: {found:?} {said}");
            };
            assert_eq!(name, "authorization");
            assert_eq!(value, "Bearer sk-of-the-file");
            assert!(!format!("{found:?}").contains("sk-of"), "{table}");
        }
        let (both, _) =
            read("api_key_file = \"key\"\napi_key_command = [\"echo\", \"b\"]", dir.path());
        assert_eq!(both.len(), 2, "one gives way to the other");
    }

    #[test]
    fn a_key_that_cannot_be_had_is_an_error_that_names_the_way_to_it() {
        let dir = tempfile::tempdir().unwrap();
        for (table, expected) in [
            ("api_key_file = \"none\"", "api_key_file: `none` cannot be read"),
            ("api_key_command = []", "api_key_command: names no program"),
            ("api_key_command = [\"no-such-program\"]", "`no-such-program`: No such file"),
            ("api_key_command = [\"false\"]", "`false`: exit status: 1"),
            ("api_key_command = [\"true\"]", "`true`: it prints nothing"),
            ("api_key_command = \"pass show x\"", "a list of strings"),
        ] {
            let (_, said) = read(table, dir.path());
            assert!(said.contains(expected), "{table}: {said}");
        }
    }
}
