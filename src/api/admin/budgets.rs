//! `/admin/budgets`: what may be spent, and what of it is used and reserved at this moment.

use axum::{Json, extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Desk,
    access::{Master, Viewer},
    budget_values::{Percent, amount, check_model, shares, time_zone, window},
    enforce,
    error::{AdminError, Asking, Changing, created, gone},
    keys::OriginView,
    read::{Id, Moment, Sent, Whole, present},
};
use crate::{
    config::Config,
    ledger::{
        Ledger,
        budget::{Budget, Kind, Unit, WhenSpent},
        now_ms,
        tenant::{Level, Origin, Scope},
    },
    units::NanoUsd,
};

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
    pub(super) level: LevelView,
    /// The id of the key or group; of a model its configured name.
    #[schema(min_length = 1)]
    pub(super) id: String,
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
    pub(super) kind: KindView,
    pub(super) scope: ScopeView,
    pub(super) unit: UnitView,
    /// How much may be used in a window; of money in nano-dollars, unless `amount_usd` says it.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 9223372036854775807_i64)]
    pub(super) amount: Option<Whole>,
    /// Of money: dollars with at most nine decimals, like `25.00`.
    #[schema(pattern = "^[0-9]{1,9}(\\.[0-9]{1,9})?$", example = "25.00")]
    pub(super) amount_usd: Option<String>,
    /// `minute`, `hour`, `day`, `week`, `month`, `total`, or `rolling-24h`; none where places at
    /// the same time are counted.
    #[schema(example = "day")]
    pub(super) window: Option<String>,
    /// Of a civil window, an IANA name; null: the ledger's own.
    #[schema(example = "Europe/Berlin")]
    pub(super) time_zone: Option<String>,
    /// A soft budget only warns.
    #[serde(default = "hard")]
    pub(super) hard: bool,
    #[serde(default)]
    pub(super) when_spent: WhenSpentView,
    /// Shares in percent at which a warning is sent.
    #[serde(default)]
    #[schema(max_items = 20)]
    pub(super) warn_at_percent: Vec<Percent>,
}

pub(super) fn hard() -> bool {
    true
}

/// What is to change. What is not named stays. To change what is counted, or whose it is, make
/// another budget.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BudgetChange {
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = i64, minimum = 0, maximum = 9223372036854775807_i64)]
    amount: Option<Whole>,
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
#[utoipa::path(
    get, operation_id = "list_budgets", path = "/admin/budgets", tag = "budgets",
    responses((status = 200, body = BudgetList), Asking)
)]
pub(super) async fn list(
    _: Viewer,
    State(desk): State<Desk>,
) -> Result<Json<BudgetList>, AdminError> {
    let ledger = desk.ledger()?;
    let budgets = ledger.store().budgets().await?;
    let mut data = Vec::with_capacity(budgets.len());
    for budget in budgets {
        data.push(view(budget, &ledger).await);
    }
    Ok(Json(BudgetList { data }))
}

/// Makes a budget or limit.
#[utoipa::path(
    post, operation_id = "create_budget", path = "/admin/budgets", tag = "budgets",
    request_body = NewBudget, responses((status = 201, body = BudgetView), Changing)
)]
pub(super) async fn create(
    master: Master,
    State(desk): State<Desk>,
    Sent(new): Sent<NewBudget>,
) -> Result<Response, AdminError> {
    let ledger = desk.ledger()?;
    let budget = budget(new, desk.gateway().config())?;
    let made = ledger.store().create_budget(&master.actor(), &budget).await;
    made.map_err(|error| AdminError::of_change(error, &budget.id, "scope.id"))?;
    enforce(&ledger).await?;
    Ok(created(view(budget, &ledger).await))
}

/// Shows a budget or limit.
#[utoipa::path(
    get, operation_id = "show_budget", path = "/admin/budgets/{id}", tag = "budgets",
    params(("id" = String, Path)), responses((status = 200, body = BudgetView), Asking)
)]
pub(super) async fn show(
    _: Viewer,
    State(desk): State<Desk>,
    Id(id): Id,
) -> Result<Json<BudgetView>, AdminError> {
    let ledger = desk.ledger()?;
    Ok(Json(view(find(&ledger, &id).await?, &ledger).await))
}

/// Changes a budget or limit. What was used stays used.
#[utoipa::path(
    patch, operation_id = "change_budget", path = "/admin/budgets/{id}", tag = "budgets",
    request_body = BudgetChange, params(("id" = String, Path)),
    responses((status = 200, body = BudgetView), Changing)
)]
pub(super) async fn change(
    master: Master,
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
    let by = master.actor();
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
    Ok(Json(view(budget, &ledger).await))
}

/// Deletes a budget or limit.
#[utoipa::path(
    delete, operation_id = "delete_budget", path = "/admin/budgets/{id}", tag = "budgets",
    params(("id" = String, Path)), responses((status = 204), Changing)
)]
pub(super) async fn delete(
    master: Master,
    State(desk): State<Desk>,
    Id(id): Id,
) -> Result<Response, AdminError> {
    let ledger = desk.ledger()?;
    find_own(&ledger, &id).await?;
    ledger.store().delete_budget(&master.actor(), &id).await?;
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
pub(super) fn budget(new: NewBudget, config: &Config) -> Result<Budget, AdminError> {
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
    let (scope, window) = (Scope { level, id: new.scope.id }, window(unit, new.window)?);
    Ok(Budget {
        time_zone: new.time_zone.map(time_zone).transpose()?,
        hard: new.hard,
        when_spent: new.when_spent.into(),
        warn_at_percent: shares(new.warn_at_percent)?,
        ..Budget::new(kind, scope, (unit, amount), window, now_ms())
    })
}

/// The budget, with what the running gateway counts, or all that count together.
async fn view(budget: Budget, ledger: &Ledger) -> BudgetView {
    let state = ledger.budget_state(&budget.id).await;
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
