//! The gateway in force, which a reload replaces while requests keep the one they began with.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use super::Gateway;
use crate::{
    config::{self, AdminConfig, Checked, Config, ConfigError, Problems},
    ledger::{LedgerSettings, store::StoreError},
    telemetry::decisions::DecisionLogSettings,
    upstream::{ClientError, Upstreams},
};

/// A cheap handle to the gateway in force.
#[derive(Clone)]
pub struct House(Arc<Inner>);

/// What flags say otherwise than the file, at the start and after each reload.
type Flags = Box<dyn Fn(&mut Config) + Send + Sync>;

struct Inner {
    current: RwLock<Arc<Gateway>>,
    /// The file that the configuration was read from, if it was one.
    file: Option<PathBuf>,
    flags: Flags,
    /// What only a restart changes, as it was at the start.
    started: Fixed,
    /// What of it the file in force says otherwise.
    restart_needed: RwLock<Vec<&'static str>>,
    /// Why the file is not in force, since the last reload that failed.
    problem: RwLock<Option<String>>,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
}

/// Why nothing was reloaded. The configuration that was in force still is.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration did not come from a file.
    #[error("there is no configuration file to reload")]
    NoFile,
    /// The file does not work: where and why, for each problem.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Reading it panicked.
    #[error("reading the configuration broke off: {0}")]
    Broken(tokio::task::JoinError),
    /// What it declares cannot be brought into the ledger.
    #[error("the ledger: {0}")]
    Ledger(#[from] StoreError),
    /// Its providers cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// What a reload has done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reloaded {
    /// Settings that have changed and only a restart brings into force.
    pub restart_needed: Vec<&'static str>,
    /// What is worth a warning about the file.
    pub warnings: Problems,
}

impl From<Arc<Gateway>> for House {
    fn from(gateway: Arc<Gateway>) -> Self {
        Self::new(gateway, None)
    }
}

impl House {
    /// With the file that the gateway's configuration was read from.
    pub fn new(gateway: Arc<Gateway>, file: Option<PathBuf>) -> Self {
        Self::with_flags(gateway, file, |_| {})
    }

    /// The same, where flags won over the file and shall win again.
    pub fn with_flags(
        gateway: Arc<Gateway>,
        file: Option<PathBuf>,
        flags: impl Fn(&mut Config) + Send + Sync + 'static,
    ) -> Self {
        let started = fixed(gateway.config());
        Self(Arc::new(Inner {
            current: RwLock::new(gateway),
            file,
            flags: Box::new(flags),
            started,
            restart_needed: RwLock::default(),
            problem: RwLock::default(),
            reloading: tokio::sync::Mutex::default(),
        }))
    }

    /// The gateway at this moment. A request takes it once and keeps it to its end.
    pub fn gateway(&self) -> Arc<Gateway> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The configuration's file.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// Why the file is not in force, if it is not.
    pub fn problem(&self) -> Option<String> {
        self.0.problem.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Settings whose change in the file only a restart brings into force.
    pub fn restart_needed(&self) -> Vec<&'static str> {
        self.0.restart_needed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads, checks and builds the file's configuration, and only then puts it in force.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let _alone = self.0.reloading.lock().await;
        let before = self.gateway();
        let outcome = self.rebuild(&before).await;
        let problem = outcome.as_ref().err().map(ToString::to_string);
        before.metrics().reload_ended(problem.is_none());
        *self.0.problem.write().unwrap_or_else(PoisonError::into_inner) = problem;
        let (gateway, reloaded) = match outcome {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "the configuration was not reloaded");
                return Err(error);
            }
        };
        *self.0.restart_needed.write().unwrap_or_else(PoisonError::into_inner) =
            reloaded.restart_needed.clone();
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(gateway);
        tracing::info!(
            restart_needed = reloaded.restart_needed.join(", "),
            warnings = %reloaded.warnings,
            "the configuration was reloaded"
        );
        Ok(reloaded)
    }

    async fn rebuild(&self, before: &Gateway) -> Result<(Gateway, Reloaded), ReloadError> {
        let file = self.file().ok_or(ReloadError::NoFile)?.to_owned();
        // It may wait for a command that prints a key.
        let loaded = tokio::task::spawn_blocking(move || config::load(&file)).await;
        let Checked { mut config, warnings } = loaded.map_err(ReloadError::Broken)??;
        (self.0.flags)(&mut config);
        let reloaded =
            Reloaded { restart_needed: changed(&self.0.started, &fixed(&config)), warnings };
        let upstreams = Upstreams::new(config.providers.clone())?;
        if let Some(ledger) = before.ledger() {
            ledger.reconcile(&config.declared).await?;
        }
        Ok((before.reloaded(config, upstreams), reloaded))
    }
}

/// Settings that a running process does not change.
struct Fixed {
    listen: SocketAddr,
    server: (bool, Duration),
    /// Its settings hold no secret, so that the text says all of them.
    classifier: String,
    decisions: DecisionLogSettings,
    ledger: Option<LedgerSettings>,
    admin: Option<SocketAddr>,
    /// Whether the listeners speak TLS. With which certificate, any reload changes.
    tls: (bool, bool),
}

fn fixed(config: &Config) -> Fixed {
    let admin = config.admin.as_ref().filter(|admin| admin.has_token());
    Fixed {
        listen: config.server.listen,
        server: (config.server.open, config.server.shutdown_grace),
        classifier: format!("{:?}", config.classifier),
        decisions: config.decisions.clone(),
        ledger: config.ledger.clone(),
        admin: admin.map(|AdminConfig { listen, .. }| *listen),
        tls: (config.server.tls.is_some(), admin.is_some_and(|admin| admin.tls.is_some())),
    }
}

fn changed(before: &Fixed, after: &Fixed) -> Vec<&'static str> {
    [
        ("[server] listen", before.listen != after.listen),
        ("[server] open, shutdown_grace_ms", before.server != after.server),
        ("[classifier]", before.classifier != after.classifier),
        ("[decisions]", before.decisions != after.decisions),
        ("[ledger]", before.ledger != after.ledger),
        ("[admin] listen", before.admin != after.admin),
        ("[server] tls_certificate, tls_key", before.tls.0 != after.tls.0),
        ("[admin] tls_certificate, tls_key", before.tls.1 != after.tls.1),
    ]
    .into_iter()
    .filter_map(|(name, changed)| changed.then_some(name))
    .collect()
}
