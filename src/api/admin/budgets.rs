//! `/admin/budgets`: what may be spent, and what of it is used and reserved at this moment.

use axum::{Json, extract::State, response::Response};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Desk,
    access::{Master, Viewer},
    actor, enforce,
    error::{AdminError, Asking, Changing, created, gone},
    keys::OriginView,
    new_id,
    read::{Id, Moment, Sent, dollars, present},
};
use crate::{
    config::{Config, did_you_mean},
    ledger::{
        Ledger,
        budget::{Budget, Kind, Unit, WhenSpent, Window},
        now_ms,
        tenant::{Level, Origin, Scope},
    },
    units::NanoUsd,
};

/// Most shares at which one budget warns (chosen).
const MAX_WARNINGS: usize = 20;

/// A budget or limit, and what of it is gone.
#[derive(Serialize, ToSchema)]
pub(super) struct BudgetView {
    /// `budget_…` or `limit_…`
    id: String,
    kind: KindView,
    scope: ScopeView,
    unit: UnitView,
    /// How much may be used in a window; of money in nano-dollars.
    amount: i64,
    /// Of money: the same in dollars.
    amount_usd: Option<String>,
    /// `minute`, `hour`, `day`, `week`, `month`, `total`, or `rolling-24h`; null where places at
    /// the same time are counted.
    window: Option<String>,
    /// Of a civil window; null: the ledger's own.
    time_zone: Option<String>,
    /// A soft budget only warns.
    hard: bool,
    when_spent: WhenSpentView,
    /// Shares in percent at which a warning is sent.
    warn_at_percent: Vec<u8>,
    created_at: Moment,
    origin: OriginView,
    /// What is used in the running window; null while the gateway does not count it yet.
    used: Option<i64>,
    used_usd: Option<String>,
    /// What requests in flight may still use.
    reserved: Option<i64>,
    reserved_usd: Option<String>,
    /// What is neither used nor reserved.
    left: Option<i64>,
    left_usd: Option<String>,
}

/// Whether running out is a matter of money (402) or of pace (429).
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum KindView {
    Budget,
    Limit,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum UnitView {
    NanoUsd,
    Tokens,
    Requests,
    /// Requests at the same time.
    Concurrent,
}

/// What happens to a request that a hard budget cannot pay for.
#[derive(Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum WhenSpentView {
    /// It is refused.
    #[default]
    Reject,
    /// Only its policy's first tier may serve.
    CheapTier,
    /// Only models without a price may serve.
    FreeModels,
}

/// Whose budget it is.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeView {
    level: LevelView,
    /// The id of the key or group; of a model its configured name.
    #[schema(min_length = 1)]
    id: String,
}

#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum LevelView {
    Organisation,
    Team,
    Project,
    Key,
    Model,
}

/// All budgets and limits.
#[derive(Serialize, ToSchema)]
pub(super) struct BudgetList {
    /// Oldest first.
    data: Vec<BudgetView>,
}

/// A budget or limit to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBudget {
    kind: KindView,
    scope: ScopeView,
    unit: UnitView,
    /// How much may be used in a window; of money in nano-dollars, unless `amount_usd` says it.
    #[schema(minimum = 0, maximum = 9223372036854775807_i64)]
    amount: Option<i64>,
    /// Of money: dollars with at most nine decimals, like `25.00`.
    #[schema(pattern = "^[0-9]{1,9}(\\.[0-9]{1,9})?$", example = "25.00")]
    amount_usd: Option<String>,
    /// `minute`, `hour`, `day`, `week`, `month`, `total`, or `rolling-24h`; none where places at
    /// the same time are counted.
    #[schema(example = "day")]
    window: Option<String>,
    /// Of a civil window, an IANA name; null: the ledger's own.
    #[schema(example = "Europe/Berlin")]
    time_zone: Option<String>,
    /// A soft budget only warns.
    #[serde(default = "hard")]
    hard: bool,
    #[serde(default)]
    when_spent: WhenSpentView,
    /// Shares in percent at which a warning is sent.
    #[serde(default)]
    #[schema(max_items = 20)]
    warn_at_percent: Vec<Percent>,
}

/// A share in percent.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[schema(minimum = 1, maximum = 100)]
pub(super) struct Percent(u8);

fn hard() -> bool {
    true
}

/// What is to change. What is not named stays. To change what is counted, or whose it is, make
/// another budget.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BudgetChange {
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, minimum = 0, maximum = 9223372036854775807_i64)]
    amount: Option<i64>,
    /// Of money: dollars with at most nine decimals, like `25.00`.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, pattern = "^[0-9]{1,9}(\\.[0-9]{1,9})?$", example = "25.00")]
    amount_usd: Option<String>,
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, example = "day")]
    window: Option<String>,
    /// null: the ledger's own.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, example = "Europe/Berlin")]
    time_zone: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    hard: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    when_spent: Option<WhenSpentView>,
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, max_items = 20)]
    warn_at_percent: Option<Vec<Percent>>,
}

/// Lists every budget and limit.
#[utoipa::path(get, path = "/admin/budgets", tag = "budgets",
    responses((status = 200, body = BudgetList), Asking))]
pub(super) async fn list(
    _: Viewer,
    State(desk): State<Desk>,
) -> Result<Json<BudgetList>, AdminError> {
    let ledger = desk.ledger()?;
    let budgets = ledger.store().budgets().await?;
    Ok(Json(BudgetList { data: budgets.into_iter().map(|b| view(b, &ledger)).collect() }))
}

/// Makes a budget or limit.
#[utoipa::path(post, path = "/admin/budgets", tag = "budgets",
    responses((status = 201, body = BudgetView), Changing))]
pub(super) async fn create(
    _: Master,
    State(desk): State<Desk>,
    Sent(new): Sent<NewBudget>,
) -> Result<Response, AdminError> {
    let ledger = desk.ledger()?;
    let budget = budget(new, desk.gateway().config())?;
    let made = ledger.store().create_budget(&actor(), &budget).await;
    made.map_err(|error| AdminError::of_change(error, &budget.id, "scope.id"))?;
    enforce(&ledger).await?;
    Ok(created(view(budget, &ledger)))
}

/// Shows a budget or limit.
#[utoipa::path(get, path = "/admin/budgets/{id}", tag = "budgets", params(("id" = String, Path)),
    responses((status = 200, body = BudgetView), Asking))]
pub(super) async fn show(
    _: Viewer,
    State(desk): State<Desk>,
    Id(id): Id,
) -> Result<Json<BudgetView>, AdminError> {
    let ledger = desk.ledger()?;
    Ok(Json(view(find(&ledger, &id).await?, &ledger)))
}

/// Changes a budget or limit. What was used stays used.
#[utoipa::path(patch, path = "/admin/budgets/{id}", tag = "budgets", params(("id" = String, Path)),
    responses((status = 200, body = BudgetView), Changing))]
pub(super) async fn change(
    _: Master,
    State(desk): State<Desk>,
    Id(id): Id,
    Sent(change): Sent<BudgetChange>,
) -> Result<Json<BudgetView>, AdminError> {
    let ledger = desk.ledger()?;
    let unit = find_own(&ledger, &id).await?.unit;
    let amount = amount(unit, change.amount, change.amount_usd)?;
    let window = change.window.map(|text| window(unit, Some(text))).transpose()?;
    let time_zone = change.time_zone.map(|name| name.map(time_zone).transpose()).transpose()?;
    let warn_at_percent = change.warn_at_percent.map(shares).transpose()?;
    let by = actor();
    let changed = ledger.store().update_budget(&by, &id, |budget| {
        budget.amount = amount.unwrap_or(budget.amount);
        budget.window = window.unwrap_or(budget.window);
        budget.hard = change.hard.unwrap_or(budget.hard);
        budget.when_spent = change.when_spent.map_or(budget.when_spent, WhenSpent::from);
        if let Some(time_zone) = time_zone {
            budget.time_zone = time_zone;
        }
        if let Some(warn_at_percent) = warn_at_percent {
            budget.warn_at_percent = warn_at_percent;
        }
    });
    let budget = changed.await.map_err(|error| AdminError::of_change(error, &id, "scope.id"))?;
    enforce(&ledger).await?;
    Ok(Json(view(budget, &ledger)))
}

/// Deletes a budget or limit.
#[utoipa::path(delete, path = "/admin/budgets/{id}", tag = "budgets", params(("id" = String, Path)),
    responses((status = 204), Changing))]
pub(super) async fn delete(
    _: Master,
    State(desk): State<Desk>,
    Id(id): Id,
) -> Result<Response, AdminError> {
    let ledger = desk.ledger()?;
    find_own(&ledger, &id).await?;
    ledger.store().delete_budget(&actor(), &id).await?;
    enforce(&ledger).await?;
    Ok(gone())
}

async fn find(ledger: &Ledger, id: &str) -> Result<Budget, AdminError> {
    let budgets = ledger.store().budgets().await?;
    let found = budgets.into_iter().find(|budget| budget.id == id);
    found.ok_or_else(|| AdminError::Missing { kind: "budget", id: id.to_owned() })
}

/// The same, unless the configuration owns it.
async fn find_own(ledger: &Ledger, id: &str) -> Result<Budget, AdminError> {
    let budget = find(ledger, id).await?;
    match budget.origin {
        Origin::Admin => Ok(budget),
        Origin::Configuration => {
            Err(AdminError::OwnedByConfiguration { kind: budget.kind.name(), id: budget.id })
        }
    }
}

/// The budget that was asked for.
fn budget(new: NewBudget, config: &Config) -> Result<Budget, AdminError> {
    let (unit, kind) = (Unit::from(new.unit), Kind::from(new.kind));
    if unit == Unit::Concurrent && kind == Kind::Budget {
        let message = "places at the same time come back by themselves; write \"limit\"";
        return Err(AdminError::Value { param: "kind", message: message.to_owned() });
    }
    let level = Level::from(new.scope.level);
    if level == Level::Model {
        check_model(&new.scope.id, config)?;
    }
    let amount = amount(unit, new.amount, new.amount_usd)?.ok_or_else(|| AdminError::Value {
        param: "amount",
        message: "is missing; write how much may be used in a window".to_owned(),
    })?;
    Ok(Budget {
        id: new_id(kind.name()),
        kind,
        scope: Scope { level, id: new.scope.id },
        unit,
        amount,
        window: window(unit, new.window)?,
        time_zone: new.time_zone.map(time_zone).transpose()?,
        hard: new.hard,
        when_spent: new.when_spent.into(),
        warn_at_percent: shares(new.warn_at_percent)?,
        created_ms: now_ms(),
        origin: Origin::Admin,
    })
}

fn check_model(name: &str, config: &Config) -> Result<(), AdminError> {
    let names = || config.models.iter().map(|card| card.name.as_str());
    if names().any(|known| known == name) {
        return Ok(());
    }
    let help = did_you_mean(name, names())
        .unwrap_or_else(|| format!("known: {}", names().collect::<Vec<_>>().join(", ")));
    let message = format!("the model `{name}` is not configured; {help}");
    Err(AdminError::Value { param: "scope.id", message })
}

/// The amount, in the unit's own counting; `None` when none was sent.
fn amount(
    unit: Unit,
    amount: Option<i64>,
    amount_usd: Option<String>,
) -> Result<Option<i64>, AdminError> {
    let wrong = |param, message: &str| AdminError::Value { param, message: message.to_owned() };
    match (amount, amount_usd) {
        (Some(_), Some(_)) => {
            Err(wrong("amount_usd", "says the same as `amount`; leave out one of them"))
        }
        (None, Some(_)) if unit != Unit::NanoUsd => {
            Err(wrong("amount_usd", "is for the unit `nano_usd`; write `amount`"))
        }
        (None, Some(text)) => Ok(Some(dollars("amount_usd", &text)?.0)),
        (Some(amount), None) if amount < 0 => {
            Err(wrong("amount", "is less than nothing; write 0 or more"))
        }
        (amount, None) => Ok(amount),
    }
}

fn window(unit: Unit, text: Option<String>) -> Result<Window, AdminError> {
    let wrong = |message| AdminError::Value { param: "window", message };
    match (unit, text) {
        // Without meaning for this unit, see [`Budget::window`].
        (Unit::Concurrent, None) => Ok(Window::Total),
        (Unit::Concurrent, Some(_)) => {
            Err(wrong("places at the same time have no window; leave it out".to_owned()))
        }
        (_, None) => Err(wrong(format!("is missing; use {}", Window::SPELLINGS))),
        (_, Some(text)) => Window::parse(&text)
            .ok_or_else(|| wrong(format!("`{text}` is not a window; use {}", Window::SPELLINGS))),
    }
}

fn time_zone(name: String) -> Result<String, AdminError> {
    if TimeZone::get(&name).is_ok() {
        return Ok(name);
    }
    let message = format!("`{name}` is not a time zone; use an IANA name, like \"Europe/Berlin\"");
    Err(AdminError::Value { param: "time_zone", message })
}

fn shares(sent: Vec<Percent>) -> Result<Vec<u8>, AdminError> {
    let mut shares: Vec<u8> = sent.iter().map(|share| share.0).collect();
    if shares.len() > MAX_WARNINGS || shares.iter().any(|share| !(1..=100).contains(share)) {
        let message = format!("write at most {MAX_WARNINGS} shares from 1 to 100");
        return Err(AdminError::Value { param: "warn_at_percent", message });
    }
    shares.sort_unstable();
    shares.dedup();
    Ok(shares)
}

/// The budget, with what the running gateway counts.
fn view(budget: Budget, ledger: &Ledger) -> BudgetView {
    let state = ledger.budget_state(&budget.id);
    let (used, reserved) = state.unzip();
    let left = state
        .map(|(used, reserved)| budget.amount.saturating_sub(used).saturating_sub(reserved).max(0));
    let usd = |amount: Option<i64>| {
        amount.filter(|_| budget.unit == Unit::NanoUsd).map(|amount| NanoUsd(amount).to_string())
    };
    BudgetView {
        kind: budget.kind.into(),
        scope: ScopeView { level: budget.scope.level.into(), id: budget.scope.id },
        unit: budget.unit.into(),
        amount: budget.amount,
        amount_usd: usd(Some(budget.amount)),
        window: (budget.unit != Unit::Concurrent).then(|| budget.window.to_string()),
        used,
        used_usd: usd(used),
        reserved,
        reserved_usd: usd(reserved),
        left,
        left_usd: usd(left),
        id: budget.id,
        time_zone: budget.time_zone,
        hard: budget.hard,
        when_spent: budget.when_spent.into(),
        warn_at_percent: budget.warn_at_percent,
        created_at: Moment(budget.created_ms),
        origin: budget.origin.into(),
    }
}

/// The same words, once for the document and once for the ledger, which does not know it.
macro_rules! same_words {
    ($view:ident, $word:ident, $($name:ident),+) => {
        impl From<$view> for $word {
            fn from(view: $view) -> Self {
                match view { $($view::$name => Self::$name),+ }
            }
        }
        impl From<$word> for $view {
            fn from(word: $word) -> Self {
                match word { $($word::$name => Self::$name),+ }
            }
        }
    };
}
same_words!(KindView, Kind, Budget, Limit);
same_words!(UnitView, Unit, NanoUsd, Tokens, Requests, Concurrent);
same_words!(WhenSpentView, WhenSpent, Reject, CheapTier, FreeModels);
same_words!(LevelView, Level, Organisation, Team, Project, Key, Model);
