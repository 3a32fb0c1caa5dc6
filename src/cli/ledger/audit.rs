//! `audit`: who changed which key, group or budget, and how.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{ConfigArg, Office, Records, at_the_office, print_json, print_table, shown_time};

#[derive(Args)]
pub struct AuditArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Show at most so many changes, the newest first
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Show changes before the one with this number
    #[arg(long, value_name = "NUMBER")]
    before: Option<i64>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn audit(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    at_the_office(&args.config, async |office| show(office, args).await)
}

async fn show(office: &Office, args: &AuditArgs) -> anyhow::Result<()> {
    let entries = office.store.audit(args.limit, args.before).await?;
    if args.json {
        return print_json(&json!(entries));
    }
    let records = Records::load(&office.store).await?;
    let rows: Vec<[String; 6]> = entries
        .iter()
        .map(|entry| {
            // What a thing is at its making is in the lists; what matters here is a difference.
            let detail =
                if entry.action == "create" { "-".to_owned() } else { entry.detail.to_string() };
            [
                entry.number.to_string(),
                shown_time(entry.time_ms),
                entry.actor.clone(),
                format!("{} {}", entry.action, entry.kind),
                records.name_of(&entry.object),
                detail,
            ]
        })
        .collect();
    let headings = ["NUMBER", "TIME (UTC)", "WHO", "WHAT", "WHICH", "DETAIL"];
    print_table(headings, &rows, "nothing has been changed")
}
