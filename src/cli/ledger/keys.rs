//! `keys`: handed out, shown, changed, rotated, revoked.

use std::{collections::BTreeSet, process::ExitCode};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::{
    ConfigArg, GroupArg, Office, Records, at_the_office, budgets,
    budgets::{TermsArg, checked_count, parse_usd, parse_window},
    checked_name, length_ms, missing, moment, print_json, print_table, refuse_declared, shown_time,
};
use crate::ledger::{
    budget::{Budget, Kind, Period, Unit, Window},
    hash_key, secret,
    tenant::{self, Key, Level, MAX_GRACE_S, Restrictions, Scope},
};

#[derive(Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Make a key and show its secret, once
    Create(Box<CreateArgs>),
    /// List keys
    List {
        #[command(flatten)]
        config: ConfigArg,
        /// Also those that are revoked
        #[arg(long)]
        all: bool,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show a key, with its budgets and limits
    Show(OneKey),
    /// Change a key
    Update(Box<UpdateArgs>),
    /// Give a key a new secret and show it, once
    Rotate {
        #[command(flatten)]
        one: OneKey,
        /// How long the old secret stays valid, like 24h; 0s for not at all
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        grace: String,
    },
    /// Refuse a key from now on, for ever
    Revoke(OneKey),
}

#[derive(Args)]
struct OneKey {
    #[command(flatten)]
    config: ConfigArg,
    /// Its name or id
    #[arg(value_name = "KEY")]
    key: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CreateArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// What people call it; unique among keys that are not revoked
    #[arg(long, value_name = "NAME")]
    name: String,
    #[command(flatten)]
    group: GroupArg,
    /// When it ends: a date, a time, or a length of time like 90d
    #[arg(long, value_name = "DATE|DURATION")]
    expires: Option<String>,
    #[command(flatten)]
    restrictions: RestrictionsArg,
    /// Dollars that it may spend in a window
    #[arg(long, value_name = "DOLLARS")]
    budget_usd: Option<String>,
    /// Tokens that it may use in a window
    #[arg(long, value_name = "N")]
    budget_tokens: Option<i64>,
    /// The window: minute, hour, day, week, month, total, or rolling-N with s, m, h or d
    /// [default: month]
    #[arg(long, value_name = "WINDOW")]
    budget_window: Option<String>,
    #[command(flatten)]
    terms: TermsArg,
    /// Requests a minute
    #[arg(long, value_name = "N")]
    rpm: Option<i64>,
    /// Tokens a minute
    #[arg(long, value_name = "N")]
    tpm: Option<i64>,
    /// Requests at the same time
    #[arg(long, value_name = "N")]
    concurrent: Option<i64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct UpdateArgs {
    #[command(flatten)]
    one: OneKey,
    /// Call it so
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    group: GroupArg,
    /// Let it belong to nothing
    #[arg(long, conflicts_with_all = ["project", "team", "organisation"])]
    no_group: bool,
    /// When it ends: a date, a time, a length of time like 90d, or never
    #[arg(long, value_name = "DATE|DURATION|never")]
    expires: Option<String>,
    #[command(flatten)]
    restrictions: RestrictionsArg,
}

/// What a key may be used for. A list that is empty restricts nothing.
#[derive(Args)]
struct RestrictionsArg {
    /// Only these policies may be named; '' for all
    #[arg(long, value_name = "A,B")]
    policies: Option<String>,
    /// Only these models may serve; '' for all
    #[arg(long, value_name = "A,B")]
    models: Option<String>,
    /// Only these tiers may serve; '' for all
    #[arg(long, value_name = "A,B")]
    tiers: Option<String>,
    /// Only callers from these addresses or ranges, like 10.0.0.0/8; '' for all
    #[arg(long, value_name = "A,B")]
    networks: Option<String>,
    /// Whether answers may come from the cache [default: as the gateway is set]
    #[arg(long, value_name = "WHETHER", value_parser = ["on", "off", "default"])]
    cache: Option<String>,
    /// Name of the guard set that applies; '' for the gateway's own
    #[arg(long, value_name = "NAME")]
    guard: Option<String>,
}

/// Runs the command.
pub fn keys(args: &KeysArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        KeysCommand::Create(args) => {
            at_the_office(&args.config, async |office| create(office, args).await)
        }
        KeysCommand::List { config, all, json } => {
            at_the_office(config, async |office| list(office, *all, *json).await)
        }
        KeysCommand::Show(one) => {
            at_the_office(&one.config, async |office| show(office, one).await)
        }
        KeysCommand::Update(args) => {
            at_the_office(&args.one.config, async |office| update(office, args).await)
        }
        KeysCommand::Rotate { one, grace } => {
            at_the_office(&one.config, async |office| rotate(office, one, grace).await)
        }
        KeysCommand::Revoke(one) => {
            at_the_office(&one.config, async |office| revoke(office, one).await)
        }
    }
}

async fn create(office: &Office, args: &CreateArgs) -> anyhow::Result<()> {
    let records = Records::load(&office.store).await?;
    let mut restrictions = Restrictions::default();
    restrict(office, &args.restrictions, &mut restrictions)?;
    let minted = secret::mint(&hash_key(&office.store).await?)?;
    let name = checked_name("--name", &args.name)?;
    let key = Key {
        group: group_id(&records, &args.group)?,
        expires_ms: args.expires.as_deref().map(|text| expiry(office, text)).transpose()?,
        restrictions,
        ..Key::new(name, &minted, office.actor.now_ms)
    };
    let budgets = budgets_of(office, args, &key.id)?;
    office.store.create_key_with(&office.actor, &key, &budgets).await?;
    if args.json {
        let mut shown = key_json(&key, &Records::load(&office.store).await?, office);
        shown["key"] = json!(minted.secret);
        shown["budgets"] = budgets.iter().map(|budget| json!(budget.id)).collect();
        return print_json(&shown);
    }
    println!("{}", minted.secret);
    eprintln!("This is the secret of key {}, shown only now. Its id is {}.", key.name, key.id);
    Ok(())
}

fn budgets_of(office: &Office, args: &CreateArgs, key: &str) -> anyhow::Result<Vec<Budget>> {
    let window = match &args.budget_window {
        Some(text) => parse_window("--budget-window", text)?,
        None => Window::Civil(Period::Month),
    };
    let count = |flag, count: Option<i64>| count.map(|n| checked_count(flag, n)).transpose();
    let usd = args.budget_usd.as_deref().map(|text| parse_usd("--budget-usd", text)).transpose()?;
    let minute = Window::Civil(Period::Minute);
    let wanted = [
        (Kind::Budget, Unit::NanoUsd, usd, window),
        (Kind::Budget, Unit::Tokens, count("--budget-tokens", args.budget_tokens)?, window),
        (Kind::Limit, Unit::Requests, count("--rpm", args.rpm)?, minute),
        (Kind::Limit, Unit::Tokens, count("--tpm", args.tpm)?, minute),
        (Kind::Limit, Unit::Concurrent, count("--concurrent", args.concurrent)?, Window::Total),
    ];
    let money =
        wanted.iter().filter(|(kind, _, amount, _)| *kind == Kind::Budget && amount.is_some());
    let money = money.count();
    let flags = "--budget-usd or --budget-tokens";
    ensure!(
        money > 0 || args.budget_window.is_none(),
        "--budget-window is about a budget: add {flags}"
    );
    args.terms.refuse_without(money, flags)?;
    let mut made = Vec::new();
    for (kind, unit, amount, window) in wanted {
        let Some(amount) = amount else { continue };
        let scope = Scope { level: Level::Key, id: key.to_owned() };
        let mut budget =
            args.terms.budget(scope, kind, (unit, amount), window, office.actor.now_ms)?;
        if kind == Kind::Limit {
            // The terms are those of the budgets.
            budget.hard = true;
            budget.when_spent = Default::default();
            budget.warn_at_percent.clear();
        }
        made.push(budget);
    }
    Ok(made)
}

async fn list(office: &Office, all: bool, json: bool) -> anyhow::Result<()> {
    let records = Records::load(&office.store).await?;
    let keys = || records.keys.iter().filter(|key| all || key.revoked_ms.is_none());
    if json {
        return print_json(&keys().map(|key| key_json(key, &records, office)).collect());
    }
    let rows: Vec<[String; 6]> = keys()
        .map(|key| {
            [
                key.name.clone(),
                key.id.clone(),
                format!("{}…", key.prefix),
                records.group_label(key.group.as_deref()),
                state(key, office.actor.now_ms).to_owned(),
                key.expires_ms.map_or("never".to_owned(), shown_time),
            ]
        })
        .collect();
    let headings = ["NAME", "ID", "SECRET", "BELONGS TO", "STATE", "EXPIRES (UTC)"];
    print_table(
        headings,
        &rows,
        "there are no keys: `weighbridge keys create --name NAME` makes one",
    )
}

async fn show(office: &Office, one: &OneKey) -> anyhow::Result<()> {
    let records = Records::load(&office.store).await?;
    let key = records.key(&one.key)?;
    let mut shown = key_json(key, &records, office);
    let mut budgets = Vec::new();
    for budget in &records.budgets {
        if budget.scope.level == Level::Key && budget.scope.id == key.id {
            let used = budgets::used(office, budget).await?;
            budgets.push(budgets::budget_json(budget, &records, used));
        }
    }
    shown["budgets"] = Value::Array(budgets);
    if one.json {
        return print_json(&shown);
    }
    // A key is looked at as a whole: its JSON, readable.
    println!("{shown:#}");
    Ok(())
}

async fn update(office: &Office, args: &UpdateArgs) -> anyhow::Result<()> {
    let records = Records::load(&office.store).await?;
    let key = changeable(&records, &args.one.key)?;
    let name = args.name.as_deref().map(|name| checked_name("--name", name)).transpose()?;
    let group = group_id(&records, &args.group)?;
    let expires_ms = match args.expires.as_deref() {
        None => None,
        Some("never") => Some(None),
        Some(text) => Some(Some(expiry(office, text)?)),
    };
    let mut restrictions = key.restrictions.clone();
    restrict(office, &args.restrictions, &mut restrictions)?;
    let changed = office.store.update_key(&office.actor, &key.id, |key| {
        key.name = name.unwrap_or_else(|| std::mem::take(&mut key.name));
        key.group = if args.no_group { None } else { group.or_else(|| key.group.take()) };
        key.expires_ms = expires_ms.unwrap_or(key.expires_ms);
        key.restrictions = restrictions;
    });
    let changed = changed.await?;
    if args.one.json {
        return print_json(&key_json(&changed, &records, office));
    }
    println!("key {} is changed", changed.name);
    Ok(())
}

async fn rotate(office: &Office, one: &OneKey, grace: &str) -> anyhow::Result<()> {
    let grace_ms = length_ms(grace).filter(|grace_ms| *grace_ms <= MAX_GRACE_S * 1_000);
    let grace_ms = grace_ms.with_context(|| {
        format!("--grace `{grace}` is no time up to 30d: write one like 24h, 30m or 0s")
    })?;
    let records = Records::load(&office.store).await?;
    let key = changeable(&records, &one.key)?;
    ensure!(key.revoked_ms.is_none(), "key `{}` is revoked: make a new one", one.key);
    let minted = secret::mint(&hash_key(&office.store).await?)?;
    let changed = office.store.update_key(&office.actor, &key.id, |key| {
        key.rotate(&minted, office.actor.now_ms, grace_ms);
    });
    let changed = changed.await?;
    if one.json {
        let mut shown = key_json(&changed, &records, office);
        shown["key"] = json!(minted.secret);
        return print_json(&shown);
    }
    println!("{}", minted.secret);
    match changed.previous {
        Some((_, until)) => eprintln!(
            "This is the new secret of key {}, shown only now. The old one is valid until {} UTC.",
            changed.name,
            shown_time(until)
        ),
        None => eprintln!(
            "This is the new secret of key {}, shown only now. The old one is no longer valid.",
            changed.name
        ),
    }
    Ok(())
}

async fn revoke(office: &Office, one: &OneKey) -> anyhow::Result<()> {
    let records = Records::load(&office.store).await?;
    let key = changeable(&records, &one.key)?;
    let now_ms = office.actor.now_ms;
    let changed = office.store.update_key(&office.actor, &key.id, |key| {
        key.revoked_ms = key.revoked_ms.or(Some(now_ms));
    });
    let changed = changed.await?;
    if one.json {
        return print_json(&key_json(&changed, &records, office));
    }
    println!("key {} is revoked", changed.name);
    Ok(())
}

fn changeable<'r>(records: &'r Records, wanted: &str) -> anyhow::Result<&'r Key> {
    let key = records.key(wanted)?;
    refuse_declared(key.origin, "key", &key.name)?;
    Ok(key)
}

fn group_id(records: &Records, arg: &GroupArg) -> anyhow::Result<Option<String>> {
    let Some((level, name)) = arg.named() else { return Ok(None) };
    Ok(Some(records.group(level, name)?.id.clone()))
}

fn expiry(office: &Office, text: &str) -> anyhow::Result<i64> {
    let now_ms = office.actor.now_ms;
    let expires_ms = moment("--expires", text, now_ms, &office.settings.time_zone, true)?;
    ensure!(expires_ms > now_ms, "--expires `{text}` has passed: name a later moment");
    Ok(expires_ms)
}

/// Changes what was given, and leaves the rest.
fn restrict(
    office: &Office,
    arg: &RestrictionsArg,
    restrictions: &mut Restrictions,
) -> anyhow::Result<()> {
    if let Some(policies) = &arg.policies {
        restrictions.policies = items(policies);
        for name in &restrictions.policies {
            let known = || office.config.policies.iter().map(|policy| policy.name());
            ensure_known("--policies", "policy", name, known())?;
        }
    }
    if let Some(models) = &arg.models {
        restrictions.models = items(models);
        for name in &restrictions.models {
            check_model(office, "--models", name)?;
        }
    }
    if let Some(tiers) = &arg.tiers {
        restrictions.tiers = items(tiers);
        let tiers = office.config.policies.iter().flat_map(|policy| policy.tiers());
        let tiers: BTreeSet<&str> = tiers.map(|tier| tier.name.as_str()).collect();
        for name in &restrictions.tiers {
            ensure_known("--tiers", "tier", name, tiers.iter().copied())?;
        }
    }
    if let Some(networks) = &arg.networks {
        restrictions.networks =
            items(networks).iter().map(|text| network(text)).collect::<Result<_, _>>()?;
    }
    match arg.cache.as_deref() {
        None => {}
        Some("default") => restrictions.cache = None,
        Some(word) => restrictions.cache = Some(word == "on"),
    }
    if let Some(guard) = &arg.guard {
        restrictions.guard = (!guard.is_empty()).then(|| guard.clone());
    }
    Ok(())
}

/// `a, b` → `["a", "b"]`
fn items(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn network(text: &str) -> anyhow::Result<IpNet> {
    tenant::network(text).ok_or_else(|| {
        anyhow!(
            "--networks `{text}` is no address: write one like 10.1.2.3, or a range like 10.0.0.0/8"
        )
    })
}

fn ensure_known<'n>(
    flag: &str,
    kind: &str,
    name: &str,
    mut known: impl Iterator<Item = &'n str> + Clone,
) -> anyhow::Result<()> {
    if known.clone().any(|known| known == name) {
        return Ok(());
    }
    let all: Vec<&str> = known.by_ref().collect();
    let otherwise = format!("use one of: {}", all.join(", "));
    bail!("{flag}: {}", missing(kind, name, all.into_iter(), &otherwise))
}

/// A model that is configured, or that callers may name as `provider/model`.
pub(super) fn check_model(office: &Office, flag: &str, name: &str) -> anyhow::Result<()> {
    let provider = name.split_once('/').map(|(provider, _)| provider);
    if office.config.providers.iter().any(|known| Some(known.name.as_str()) == provider) {
        return Ok(());
    }
    ensure_known(flag, "model", name, office.config.models.iter().map(|card| card.name.as_str()))
}

fn state(key: &Key, now_ms: i64) -> &'static str {
    match key {
        Key { revoked_ms: Some(_), .. } => "revoked",
        Key { expires_ms: Some(at), .. } if *at <= now_ms => "expired",
        _ => "active",
    }
}

/// A key as programs read it, without secret or hash.
fn key_json(key: &Key, records: &Records, office: &Office) -> Value {
    let now_ms = office.actor.now_ms;
    let mut shown = json!(key);
    shown["state"] = json!(state(key, now_ms));
    shown["group_name"] = json!(key.group.as_deref().map(|id| records.name_of(id)));
    let previous = key.previous.as_ref().map(|(_, until_ms)| *until_ms);
    shown["previous_valid_until_ms"] = json!(previous.filter(|until_ms| *until_ms > now_ms));
    shown
}
