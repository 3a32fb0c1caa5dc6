//! What a key may spend, made with the key: there is no moment at which it is without its budgets.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    budget_values::Percent,
    budgets::{KindView, LevelView, NewBudget, ScopeView, UnitView, WhenSpentView, budget, hard},
    error::AdminError,
    read::Whole,
};
use crate::{config::Config, ledger::budget::Budget};

/// A budget or limit of the key that is made with it: the same, but for whose it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyBudget {
    kind: KindView,
    unit: UnitView,
    /// How much may be used in a window; of money in nano-dollars, unless `amount_usd` says it.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 9223372036854775807_i64)]
    amount: Option<Whole>,
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

impl KeyBudget {
    /// The budget, once its key has an id. What is wrong with it is wrong with `budgets`.
    pub(super) fn of_key(self, id: &str, config: &Config) -> Result<Budget, AdminError> {
        let asked = NewBudget {
            kind: self.kind,
            scope: ScopeView { level: LevelView::Key, id: id.to_owned() },
            unit: self.unit,
            amount: self.amount,
            amount_usd: self.amount_usd,
            window: self.window,
            time_zone: self.time_zone,
            hard: self.hard,
            when_spent: self.when_spent,
            warn_at_percent: self.warn_at_percent,
        };
        budget(asked, config).map_err(|error| match error {
            AdminError::Value { param, message } => {
                AdminError::Value { param: "budgets", message: format!("`{param}` {message}") }
            }
            other => other,
        })
    }
}
