//! `serve` and `mock`.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use clap::Args;
use reqwest::Url;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::{ConfigArg, MockArgs, ModelArg, inputs, workers::Workers};
use crate::{
    api,
    classify::queue::ScoringQueue,
    config::{
        Config,
        catalogue::{LOCAL_FILE, Models},
        environment, tls_files_named_in,
    },
    gateway::{Gateway, House, Stop},
    ledger::{Found, Ledger},
    mock::ScriptedUpstream,
    telemetry::{Metrics, decisions::DecisionLog, start_log},
    upstream::Upstreams,
};

#[derive(Args, Clone)]
pub struct ServeArgs {
    /// Where to listen [default: 127.0.0.1:8080, or what the configuration says]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Let everybody call an address other than this machine's own, without a key
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    model: ModelArg,
    /// Log filter, as in RUST_LOG
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", hide_env_values = true)]
    log: Option<String>,
}

impl ServeArgs {
    /// Puts the flags into the configuration: they win.
    fn apply(&self, config: &mut Config) -> anyhow::Result<()> {
        config.server.listen = self.listen.unwrap_or(config.server.listen);
        config.server.open |= self.open;
        inputs::apply(&self.model, &mut config.classifier)
    }
}

/// Serves until a signal.
pub fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    start_log(args.log.as_deref());
    runtime()?.block_on(run(args))?;
    Ok(ExitCode::SUCCESS)
}

/// Serves the scripted upstream until a signal.
pub fn mock(args: &MockArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let listener = bind(args.listen).await?;
        say(&format!("the scripted upstream listens on http://{}/v1", listener.local_addr()?));
        let (upstream, stop) = (ScriptedUpstream::new(), interrupted()?);
        let serve = |share| upstream.clone().serve(share, told(&stop));
        Workers::start(listener, serve)?.run().await
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let (mut config, found) = match inputs::load_config(&args.config)? {
        Some(config) => (config, None),
        None => {
            let (config, sentence) = config_from_environment().await?;
            (config, Some(sentence))
        }
    };
    args.apply(&mut config)?;

    let ledger = open_ledger(&config).await?;
    refuse_open_door(&config, ledger.as_deref())?;
    let listener = bind(config.server.listen).await?;
    let address = listener.local_addr()?;
    let upstreams = Upstreams::new(config.providers.clone())?;
    let (cancel, stop) = Stop::new();
    let metrics = Arc::new(Metrics::default());
    let log = DecisionLog::open(&config.decisions).context("[decisions] log cannot be opened")?;
    let gateway = Gateway::new(config, upstreams, metrics, stop).with_decision_log(log);
    let gateway = Arc::new(gateway.with_ledger(ledger.clone()));
    let file = found.is_none().then(|| inputs::config_path(&args.config)).flatten();
    // What works at the start works again.
    let flags = move |config: &mut Config| drop(args.apply(config));
    let house = House::with_flags(Arc::clone(&gateway), file, flags);
    let reloader = tokio::spawn(reload_when_asked(house.clone(), hung_up()?));
    let (ledger_stop, ledger_stopped) = tokio::sync::oneshot::channel::<()>();
    let bookkeeper = ledger.map(|ledger| {
        tokio::spawn(ledger.run(async move {
            // An error means that the sender has gone, which says the same.
            let _ = ledger_stopped.await;
        }))
    });

    // The listener answers /health and /ready while the model loads beside it.
    let loading = {
        let gateway = Arc::clone(&gateway);
        tokio::task::spawn_blocking(move || {
            let model = inputs::load_model(&gateway.config().classifier)?;
            let queue = ScoringQueue::start(&model, gateway.config().classifier.queue.clone())?;
            gateway.scoring_ready(queue);
            anyhow::Ok(model)
        })
    };
    let stop = interrupted()?;
    let (admin, admin_address) = match admin_listener(gateway.config()).await? {
        Some(listener) => {
            let address = listener.local_addr()?;
            let served = api::admin::serve(listener, house.clone(), told(&stop));
            (Some(tokio::spawn(served)), Some(address))
        }
        None => (None, None),
    };
    let serve = |share| api::serve(share, house.clone(), cancel.clone(), told(&stop));
    let server = tokio::spawn(Workers::start(listener, serve)?.run());
    let model = loading.await.context("the model loader panicked")??;
    greet(&gateway, &model, address, admin_address, found.as_deref());
    let served = server.await.context("the server panicked")?;
    if let Some(admin) = admin {
        admin.await.context("the admin API panicked")??;
    }
    reloader.abort();
    // All requests are settled: what they used goes to the store.
    drop(ledger_stop);
    if let Some(bookkeeper) = bookkeeper {
        bookkeeper.await.context("the ledger panicked")?;
    }
    served
}

/// Where the admin API listens, if anybody could be let in.
async fn admin_listener(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    match &config.admin {
        Some(admin) if admin.has_token() => Ok(Some(bind(admin.listen).await?)),
        _ => Ok(None),
    }
}

/// The ledger, where one is configured, with what a process before has left in its journal.
async fn open_ledger(config: &Config) -> anyhow::Result<Option<Arc<Ledger>>> {
    let Some(settings) = config.ledger.clone() else { return Ok(None) };
    let (ledger, found) = Ledger::open(settings).await.context("the ledger cannot be opened")?;
    let reconciled = ledger.reconcile(&config.declared).await;
    reconciled.context("what the configuration declares cannot be brought into the ledger")?;
    if found != Found::default() {
        tracing::warn!(
            rows = found.rows,
            interrupted = found.interrupted,
            "the last run did not end in order: the journal's rows were written"
        );
    }
    Ok(Some(ledger))
}

/// Reloads on SIGHUP and, where the configuration says so, when its file, a certificate or a key
/// changes. Failures are told by the house itself.
async fn reload_when_asked(house: House, mut hung_up: tokio::signal::unix::Signal) {
    let mut known = states(&house);
    loop {
        let watches = house.gateway().config().server.watch;
        tokio::select! {
            asked = hung_up.recv() => {
                if asked.is_none() {
                    return;
                }
            }
            () = tokio::time::sleep(WATCH_EVERY), if watches => {
                if states(&house) == known {
                    continue;
                }
            }
        }
        known = states(&house);
        drop(house.reload().await);
    }
}

/// How often a watched file is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// What changes when somebody writes the configuration's file, or a certificate or key that it
/// names, also where it was refused: the mistake may be in them.
fn states(house: &House) -> Vec<Option<(SystemTime, u64)>> {
    let Some(file) = house.file() else { return Vec::new() };
    let named = tls_files_named_in(file);
    std::iter::once(file).chain(named.iter().map(PathBuf::as_path)).map(file_state).collect()
}

fn file_state(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn hung_up() -> std::io::Result<tokio::signal::unix::Signal> {
    signal(SignalKind::hangup())
}

/// Without keys everybody who reaches the listener spends the operator's money.
fn refuse_open_door(config: &Config, ledger: Option<&Ledger>) -> anyhow::Result<()> {
    let address = config.server.listen;
    let is_keyed = ledger.is_some_and(Ledger::has_keys);
    anyhow::ensure!(
        address.ip().is_loopback() || config.server.open || is_keyed,
        "there are no keys, so everybody who reaches {address} could use every provider: create \
         one (`weighbridge keys create --name NAME`, with a [ledger] table in the configuration), \
         listen on 127.0.0.1, or say `open = true` under [server] (`--open`)"
    );
    Ok(())
}

/// What was found in the environment, and a sentence that says so.
async fn config_from_environment() -> anyhow::Result<(Config, String)> {
    let ollama = environment::probe_ollama().await;
    let models = Models::with_local_file(Path::new(LOCAL_FILE))?;
    if let Some(found) = environment::discover(&environment::variable, &ollama, models) {
        let sentence = format!("no configuration; providers found: {}", found.sources.join(", "));
        return Ok((found.config, sentence));
    }
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let base_url = Url::parse(&format!("http://{}/v1/", listener.local_addr()?))?;
    // It lives as long as the process: nothing is lost when it goes.
    tokio::spawn(ScriptedUpstream::new().serve(listener, std::future::pending()));
    let found = environment::scripted(base_url).context("the built-in configuration is broken")?;
    let sentence = "no configuration and no provider key: the built-in scripted upstream answers \
                    (set OPENAI_API_KEY or run `weighbridge init` for real models)";
    Ok((found.config, sentence.to_owned()))
}

/// What a person sees once everything is ready. That nobody reads it is no reason to stop.
fn greet(
    gateway: &Gateway,
    model: &crate::classify::model::Model,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    found: Option<&str>,
) {
    let config = gateway.config();
    let policies: Vec<_> = config.policies.iter().map(|policy| policy.name()).collect();
    let mut lines: Vec<String> = found.map(str::to_owned).into_iter().collect();
    lines.push(format!(
        "weighbridge {} listens on {}://{address}/v1 (policies: {}; {} models; classifier: {} on {})",
        env!("CARGO_PKG_VERSION"),
        scheme(config.server.tls.is_some()),
        if policies.is_empty() { "none".to_owned() } else { policies.join(", ") },
        config.models.len(),
        model.name(),
        model.encoder_name(),
    ));
    if let Some(at) = admin {
        let scheme = scheme(config.admin.as_ref().is_some_and(|admin| admin.tls.is_some()));
        lines.push(format!("the admin API listens on {scheme}://{at}/admin"));
    }
    if !gateway.ledger().is_some_and(|ledger| ledger.has_keys()) {
        lines.push(format!("no keys: whoever reaches {address} may use the gateway"));
    }
    say(&lines.join("\n"));
}

/// Prints to whoever reads.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        tracing::debug!(%error, "nobody reads the output");
    }
}

fn scheme(is_encrypted: bool) -> &'static str {
    if is_encrypted { "https" } else { "http" }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// What accepts, keeps the ledger, waits for signals and loads; [`Workers`] serve.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// True once SIGINT or SIGTERM has come.
fn interrupted() -> std::io::Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stopping, stop) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stopping.send_replace(true);
    });
    Ok(stop)
}

/// Ends when `stop` is true.
fn told(stop: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<> {
    let mut stop = stop.clone();
    async move {
        // An error means that nobody waits for signals any more: the process ends.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}
