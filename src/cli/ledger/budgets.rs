//! `budgets`: what a key, a group or a model may use in a window of time.

use std::process::ExitCode;

use anyhow::{anyhow, bail, ensure};
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{
    ConfigArg, GroupArg, Office, Records, at_the_office, print_json, print_table, refuse_declared,
};
use crate::{
    ledger::{
        budget::{Budget, Kind, Period, Unit, WhenSpent, Window},
        tenant::{Level, Scope},
        window::{Used, slot_ms},
    },
    units::NanoUsd,
};

#[derive(Args)]
pub struct BudgetsArgs {
    #[command(subcommand)]
    command: BudgetsCommand,
}

#[derive(Subcommand)]
enum BudgetsCommand {
    /// Set a budget or a limit
    Create(Box<CreateArgs>),
    /// List budgets and limits, with what is used of them
    List {
        #[command(flatten)]
        config: ConfigArg,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Change a budget or limit; what was used stays used
    Update(Box<UpdateArgs>),
    /// Delete a budget or limit
    Delete {
        #[command(flatten)]
        config: ConfigArg,
        /// Its id, as `budgets list` shows it
        #[arg(value_name = "ID")]
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct CreateArgs {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    scope: ScopeArg,
    #[command(flatten)]
    amount: AmountArg,
    /// minute, hour, day, week, month, total, or rolling-N with s, m, h or d
    /// [default: month for budgets, minute for limits]
    #[arg(long, value_name = "WINDOW", conflicts_with = "concurrent")]
    window: Option<String>,
    /// A budget refuses with 402 until its next window, a limit with 429 for a moment
    /// [default: budget for money and tokens, limit for the rest]
    #[arg(long, value_name = "KIND", value_parser = ["budget", "limit"])]
    kind: Option<String>,
    #[command(flatten)]
    terms: TermsArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct UpdateArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Its id, as `budgets list` shows it
    #[arg(value_name = "ID")]
    id: String,
    /// How much: dollars of money, else a number
    #[arg(long, value_name = "N")]
    amount: Option<String>,
    /// minute, hour, day, week, month, total, or rolling-N with s, m, h or d
    #[arg(long, value_name = "WINDOW")]
    window: Option<String>,
    /// Refuse what it cannot pay for
    #[arg(long, conflicts_with = "soft")]
    hard: bool,
    #[command(flatten)]
    terms: TermsArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Whose budget it is: exactly one of them.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct ScopeArg {
    /// Of this key
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Of this project
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Of this team
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
    /// Of this organisation
    #[arg(long, value_name = "NAME")]
    organisation: Option<String>,
    /// Of this configured model, whoever asks
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

/// How much of what: exactly one of them.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct AmountArg {
    /// Dollars, with at most nine decimals
    #[arg(long, value_name = "DOLLARS")]
    usd: Option<String>,
    /// Prompt and completion tokens
    #[arg(long, value_name = "N")]
    tokens: Option<i64>,
    /// Requests
    #[arg(long, value_name = "N")]
    requests: Option<i64>,
    /// Requests at the same time
    #[arg(long, value_name = "N")]
    concurrent: Option<i64>,
}

/// How it is kept.
#[derive(Args)]
pub struct TermsArg {
    /// Only warn; refuse nothing
    #[arg(long)]
    soft: bool,
    /// What becomes of requests that a hard budget cannot pay for
    #[arg(long, value_name = "WHAT", value_parser = WhenSpent::NAMES, conflicts_with = "soft")]
    when_spent: Option<String>,
    /// Percentages at which a warning is sent, once a window
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=100))]
    warn_at: Vec<u8>,
    /// Where days, weeks and months begin, like Europe/Berlin [default: that of the configuration]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
}

impl TermsArg {
    /// A budget on these terms.
    pub fn budget(
        &self,
        scope: Scope,
        kind: Kind,
        amount: (Unit, i64),
        window: Window,
        now_ms: i64,
    ) -> anyhow::Result<Budget> {
        let mut budget = Budget::new(kind, scope, amount, window, now_ms);
        self.change(&mut budget)?;
        Ok(budget)
    }

    /// Sets what is given; the rest stays.
    fn change(&self, budget: &mut Budget) -> anyhow::Result<()> {
        if let Some(zone) = &self.time_zone {
            let known = TimeZone::get(zone).is_ok();
            ensure!(
                known,
                "--time-zone `{zone}` is not known: use an IANA name, like Europe/Berlin"
            );
            budget.time_zone = Some(zone.clone());
        }
        if self.soft {
            budget.hard = false;
        }
        if let Some(choice) = self.when_spent.as_deref().and_then(WhenSpent::from_name) {
            budget.when_spent = choice;
        }
        if !self.warn_at.is_empty() {
            budget.warn_at_percent = self.warn_at.clone();
            budget.warn_at_percent.sort_unstable();
            budget.warn_at_percent.dedup();
        }
        Ok(())
    }

    /// Refuses terms that a limit does not have.
    fn fit(&self, kind: Kind) -> anyhow::Result<()> {
        ensure!(
            kind == Kind::Budget || self.when_spent.is_none(),
            "--when-spent is about budgets, and this is a limit: say --kind budget"
        );
        Ok(())
    }

    /// Refuses terms that nothing would follow.
    pub fn refuse_without(&self, budgets: usize, flags: &str) -> anyhow::Result<()> {
        let given = [
            ("--soft", self.soft),
            ("--when-spent", self.when_spent.is_some()),
            ("--warn-at", !self.warn_at.is_empty()),
            ("--time-zone", self.time_zone.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) if budgets == 0 => bail!("{flag} is about a budget: add {flags}"),
            _ => Ok(()),
        }
    }
}

/// Dollars as nano-dollars, at least 0.
pub fn parse_usd(flag: &str, text: &str) -> anyhow::Result<i64> {
    let amount = NanoUsd::parse(text).filter(|amount| amount.0 >= 0);
    let amount = amount.ok_or_else(|| {
        anyhow!("{flag} `{text}` is no amount: write dollars with at most nine decimals, like 0.01")
    })?;
    Ok(amount.0)
}

/// A count that may be used, at least 0.
pub fn checked_count(flag: &str, count: i64) -> anyhow::Result<i64> {
    ensure!(count >= 0, "{flag} `{count}` is negative: write 0 or more");
    Ok(count)
}

/// A window by its spelling.
pub fn parse_window(flag: &str, text: &str) -> anyhow::Result<Window> {
    Window::parse(text)
        .ok_or_else(|| anyhow!("{flag} `{text}` is not a window: use {}", Window::SPELLINGS))
}

/// Runs the command.
pub fn budgets(args: &BudgetsArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        BudgetsCommand::Create(args) => {
            at_the_office(&args.config, async |office| create(office, args).await)
        }
        BudgetsCommand::List { config, json } => {
            at_the_office(config, async |office| list(office, *json).await)
        }
        BudgetsCommand::Update(args) => {
            at_the_office(&args.config, async |office| update(office, args).await)
        }
        BudgetsCommand::Delete { config, id, json } => {
            at_the_office(config, async |office| delete(office, id, *json).await)
        }
    }
}

async fn create(office: &Office, args: &CreateArgs) -> anyhow::Result<()> {
    let records = Records::load(&office.store).await?;
    let scope = scope(office, &records, &args.scope)?;
    let (unit, amount) = amount(&args.amount)?;
    let usual = match unit {
        Unit::NanoUsd | Unit::Tokens => Kind::Budget,
        Unit::Requests | Unit::Concurrent => Kind::Limit,
    };
    let kind = match args.kind.as_deref() {
        None => usual,
        Some("budget") => Kind::Budget,
        Some(_) => Kind::Limit,
    };
    let window = match (&args.window, unit, kind) {
        (_, Unit::Concurrent, _) => Window::Total,
        (Some(text), ..) => parse_window("--window", text)?,
        (None, _, Kind::Budget) => Window::Civil(Period::Month),
        (None, _, Kind::Limit) => Window::Civil(Period::Minute),
    };
    args.terms.fit(kind)?;
    let now_ms = office.actor.now_ms;
    let budget = args.terms.budget(scope, kind, (unit, amount), window, now_ms)?;
    office.store.create_budget(&office.actor, &budget).await?;
    if args.json {
        return print_json(&budget_json(&budget, &records, 0));
    }
    println!("{}", sentence(&budget, &records));
    Ok(())
}

async fn update(office: &Office, args: &UpdateArgs) -> anyhow::Result<()> {
    let records = Records::load(&office.store).await?;
    let known = records.budgets.iter().find(|budget| budget.id == args.id);
    let known = known.ok_or_else(|| {
        anyhow!("there is no budget `{}`: `weighbridge budgets list` shows them", args.id)
    })?;
    refuse_declared(known.origin, known.kind.name(), &known.id)?;
    ensure!(changed(known, args)? != *known, "nothing would change: say --amount or another term");
    let change = |budget: &mut Budget| {
        // As it is by now; that the flags can be followed is known.
        if let Ok(changed) = changed(budget, args) {
            *budget = changed;
        }
    };
    let budget = office.store.update_budget(&office.actor, &args.id, change).await?;
    if args.json {
        let used = used(office, &budget).await?;
        return print_json(&budget_json(&budget, &records, used));
    }
    println!("{}", sentence(&budget, &records));
    Ok(())
}

fn changed(budget: &Budget, args: &UpdateArgs) -> anyhow::Result<Budget> {
    let mut changed = budget.clone();
    match (&args.amount, budget.unit) {
        (None, _) => {}
        (Some(text), Unit::NanoUsd) => changed.amount = parse_usd("--amount", text)?,
        (Some(text), _) => {
            let count = text.parse().map_err(|_| anyhow!("--amount `{text}` is no number"))?;
            changed.amount = checked_count("--amount", count)?;
        }
    }
    if let Some(text) = &args.window {
        ensure!(budget.unit != Unit::Concurrent, "--window: places at the same time have none");
        changed.window = parse_window("--window", text)?;
    }
    changed.hard |= args.hard;
    args.terms.fit(budget.kind)?;
    args.terms.change(&mut changed)?;
    Ok(changed)
}

/// `budget budget_0192…: $5.00 a month for key ci`
fn sentence(budget: &Budget, records: &Records) -> String {
    format!(
        "{} {}: {} {} for {} {}",
        budget.kind.name(),
        budget.id,
        shown_amount(budget.unit, budget.amount),
        shown_window(budget),
        budget.scope.level.name(),
        records.name_of(&budget.scope.id),
    )
}

fn scope(office: &Office, records: &Records, arg: &ScopeArg) -> anyhow::Result<Scope> {
    if let Some(name) = &arg.key {
        return Ok(Scope { level: Level::Key, id: records.key(name)?.id.clone() });
    }
    if let Some(name) = &arg.model {
        super::keys::check_model(office, "--model", name)?;
        return Ok(Scope { level: Level::Model, id: name.clone() });
    }
    let group = GroupArg {
        project: arg.project.clone(),
        team: arg.team.clone(),
        organisation: arg.organisation.clone(),
    };
    let (level, name) = group.named().ok_or_else(|| {
        anyhow!("say whose it is: --key, --project, --team, --organisation or --model NAME")
    })?;
    Ok(Scope { level, id: records.group(level, name)?.id.clone() })
}

fn amount(arg: &AmountArg) -> anyhow::Result<(Unit, i64)> {
    if let Some(text) = &arg.usd {
        return Ok((Unit::NanoUsd, parse_usd("--usd", text)?));
    }
    for (unit, flag, count) in [
        (Unit::Tokens, "--tokens", arg.tokens),
        (Unit::Requests, "--requests", arg.requests),
        (Unit::Concurrent, "--concurrent", arg.concurrent),
    ] {
        if let Some(count) = count {
            return Ok((unit, checked_count(flag, count)?));
        }
    }
    bail!("say how much it is: --usd, --tokens, --requests or --concurrent N")
}

async fn list(office: &Office, json: bool) -> anyhow::Result<()> {
    let records = Records::load(&office.store).await?;
    let mut rows = Vec::with_capacity(records.budgets.len());
    let mut shown = Vec::with_capacity(records.budgets.len());
    for budget in &records.budgets {
        let used = used(office, budget).await?;
        shown.push(budget_json(budget, &records, used));
        rows.push(table_row(budget, &records, used));
    }
    if json {
        return print_json(&Value::Array(shown));
    }
    let headings = ["ID", "FOR", "AMOUNT", "WINDOW", "USED", "WHEN SPENT", "WARNS AT"];
    print_table(headings, &rows, "there are no budgets")
}

/// What the ledger has in its current window. What runs at this moment is not in it.
pub(super) async fn used(office: &Office, budget: &Budget) -> anyhow::Result<i64> {
    let named = budget.time_zone.as_deref().and_then(|zone| TimeZone::get(zone).ok());
    let zone = named.unwrap_or_else(|| office.settings.time_zone.clone());
    let now_ms = office.actor.now_ms;
    let mut used = Used::new(budget.window, zone, now_ms);
    let since_ms = used.start_ms(now_ms).max(0);
    for (start_ms, sums) in
        office.store.spent(&budget.scope, since_ms, slot_ms(budget.window)).await?
    {
        used.add(start_ms.max(since_ms), sums.of(budget.unit), now_ms);
    }
    Ok(used.sum())
}

fn table_row(budget: &Budget, records: &Records, used: i64) -> [String; 7] {
    let when_spent = match (budget.hard, budget.kind) {
        (false, _) => "warns",
        (true, Kind::Budget) => budget.when_spent.name(),
        (true, Kind::Limit) => "429",
    };
    let warns: Vec<String> =
        budget.warn_at_percent.iter().map(|percent| format!("{percent}%")).collect();
    [
        budget.id.clone(),
        format!("{} {}", budget.scope.level.name(), records.name_of(&budget.scope.id)),
        shown_amount(budget.unit, budget.amount),
        shown_window(budget),
        if budget.unit == Unit::Concurrent {
            "-".to_owned()
        } else {
            shown_amount(budget.unit, used)
        },
        when_spent.to_owned(),
        warns.join(" "),
    ]
}

fn shown_amount(unit: Unit, amount: i64) -> String {
    match unit {
        Unit::NanoUsd => format!("${}", NanoUsd(amount)),
        Unit::Tokens => format!("{amount} tokens"),
        Unit::Requests => format!("{amount} requests"),
        Unit::Concurrent => format!("{amount} at once"),
    }
}

fn shown_window(budget: &Budget) -> String {
    match budget.window {
        _ if budget.unit == Unit::Concurrent => "-".to_owned(),
        window @ Window::Civil(_) => format!("a {window}"),
        Window::Total => "in all".to_owned(),
        window @ Window::Rolling(_) => window.to_string(),
    }
}

/// A budget with what is used of it; money also as dollars.
pub(super) fn budget_json(budget: &Budget, records: &Records, used: i64) -> Value {
    let mut shown = json!(budget);
    shown["scope"]["name"] = json!(records.name_of(&budget.scope.id));
    shown["used"] = json!(used);
    if budget.unit == Unit::NanoUsd {
        shown["amount_usd"] = json!(NanoUsd(budget.amount).to_string());
        shown["used_usd"] = json!(NanoUsd(used).to_string());
    }
    shown
}

async fn delete(office: &Office, id: &str, json: bool) -> anyhow::Result<()> {
    let records = Records::load(&office.store).await?;
    if let Some(budget) = records.budgets.iter().find(|budget| budget.id == id) {
        refuse_declared(budget.origin, budget.kind.name(), id)?;
    }
    office.store.delete_budget(&office.actor, id).await?;
    if json {
        return print_json(&json!({ "id": id, "deleted": true }));
    }
    println!("{id} is deleted");
    Ok(())
}
