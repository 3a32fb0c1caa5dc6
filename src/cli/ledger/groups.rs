//! `organisations`, `teams`, `projects`: who keys belong to.

use std::process::ExitCode;

use anyhow::ensure;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    ConfigArg, Office, Records, at_the_office, checked_name, print_json, print_table,
    refuse_declared,
};
use crate::ledger::tenant::{Group, Level};

/// The commands of one level; `P` names the parent that it may have.
#[derive(Args)]
pub struct GroupsArgs<P: Args> {
    #[command(subcommand)]
    command: GroupsCommand<P>,
}

#[derive(Subcommand)]
enum GroupsCommand<P: Args> {
    /// Make one
    Create {
        #[command(flatten)]
        config: ConfigArg,
        /// What people call it; unique among its kind
        #[arg(long, value_name = "NAME")]
        name: String,
        #[command(flatten)]
        parent: P,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List them
    List {
        #[command(flatten)]
        config: ConfigArg,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Give one another name, or let it belong to another
    Update {
        #[command(flatten)]
        config: ConfigArg,
        /// Its name or id
        #[arg(value_name = "NAME")]
        group: String,
        /// Call it so
        #[arg(long = "name", value_name = "NAME")]
        new_name: Option<String>,
        #[command(flatten)]
        parent: P,
        /// Let it belong to nothing
        #[arg(long)]
        no_parent: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete one that nothing belongs to, with its budgets; what it spent keeps its name
    Delete {
        #[command(flatten)]
        config: ConfigArg,
        /// Its name or id
        #[arg(value_name = "NAME")]
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What a level may belong to.
pub trait Parent: Args {
    /// The level itself.
    const LEVEL: Level;
    /// The level and name of the parent that was given.
    fn named(&self) -> Option<(Level, &str)>;
}

/// An organisation belongs to nothing.
#[derive(Args)]
pub struct OfNothing {}

impl Parent for OfNothing {
    const LEVEL: Level = Level::Organisation;

    fn named(&self) -> Option<(Level, &str)> {
        None
    }
}

/// A team may belong to an organisation.
#[derive(Args)]
pub struct OfOrganisation {
    /// The organisation that it belongs to
    #[arg(long, value_name = "NAME")]
    organisation: Option<String>,
}

impl Parent for OfOrganisation {
    const LEVEL: Level = Level::Team;

    fn named(&self) -> Option<(Level, &str)> {
        Some((Level::Organisation, self.organisation.as_deref()?))
    }
}

/// A project may belong to a team, or directly to an organisation.
#[derive(Args)]
pub struct OfTeam {
    /// The team that it belongs to
    #[arg(long, value_name = "NAME", conflicts_with = "organisation")]
    team: Option<String>,
    /// The organisation that it belongs to
    #[arg(long, value_name = "NAME")]
    organisation: Option<String>,
}

impl Parent for OfTeam {
    const LEVEL: Level = Level::Project;

    fn named(&self) -> Option<(Level, &str)> {
        let team = self.team.as_deref().map(|name| (Level::Team, name));
        team.or_else(|| Some((Level::Organisation, self.organisation.as_deref()?)))
    }
}

/// Runs the command of a level.
pub fn groups<P: Parent>(args: &GroupsArgs<P>) -> anyhow::Result<ExitCode> {
    let level = P::LEVEL;
    match &args.command {
        GroupsCommand::Create { config, name, parent, json } => {
            at_the_office(config, async |office| {
                create(office, level, name, parent.named(), *json).await
            })
        }
        GroupsCommand::List { config, json } => {
            at_the_office(config, async |office| list(office, level, *json).await)
        }
        GroupsCommand::Update { config, group, new_name, parent, no_parent, json } => {
            let change = Change { name: new_name.as_deref(), no_parent: *no_parent };
            at_the_office(config, async |office| {
                update(office, (level, group), change, parent.named(), *json).await
            })
        }
        GroupsCommand::Delete { config, name, json } => {
            at_the_office(config, async |office| delete(office, level, name, *json).await)
        }
    }
}

async fn create(
    office: &Office,
    level: Level,
    name: &str,
    parent: Option<(Level, &str)>,
    json: bool,
) -> anyhow::Result<()> {
    let records = Records::load(&office.store).await?;
    let parent = match parent {
        Some((level, name)) => Some(records.group(level, name)?.id.clone()),
        None => None,
    };
    let name = checked_name("--name", name)?;
    let group = Group::new(level, name, parent, office.actor.now_ms);
    office.store.create_group(&office.actor, &group).await?;
    if json {
        return print_json(&json!(group));
    }
    println!("{} {} has the id {}", level.name(), group.name, group.id);
    Ok(())
}

/// What becomes of a group, beside its new parent.
struct Change<'c> {
    name: Option<&'c str>,
    no_parent: bool,
}

async fn update(
    office: &Office,
    (level, wanted): (Level, &str),
    change: Change<'_>,
    parent: Option<(Level, &str)>,
    json: bool,
) -> anyhow::Result<()> {
    ensure!(
        change.name.is_some() || change.no_parent || parent.is_some(),
        "nothing was to be changed: name what is (see --help)"
    );
    ensure!(
        !(change.no_parent && parent.is_some()),
        "--no-parent and a parent exclude each other: leave one of them out"
    );
    let records = Records::load(&office.store).await?;
    let group = records.group(level, wanted)?;
    refuse_declared(group.origin, level.name(), &group.name)?;
    let name = change.name.map(|name| checked_name("--name", name)).transpose()?;
    let parent = match parent {
        Some((level, name)) => Some(records.group(level, name)?.id.clone()),
        None => None,
    };
    let apply = |group: &mut Group| {
        group.name = name.unwrap_or_else(|| group.name.clone());
        if change.no_parent || parent.is_some() {
            group.parent = parent;
        }
    };
    let changed = office.store.update_group(&office.actor, &group.id, apply).await?;
    if json {
        return print_json(&json!(changed));
    }
    println!("{} {} is changed", level.name(), changed.name);
    Ok(())
}

async fn list(office: &Office, level: Level, json: bool) -> anyhow::Result<()> {
    let records = Records::load(&office.store).await?;
    let groups = || records.groups.iter().filter(|group| group.level == level);
    if json {
        let shown = groups().map(|group| {
            let mut shown = json!(group);
            shown["parent_name"] = json!(group.parent.as_deref().map(|id| records.name_of(id)));
            shown
        });
        return print_json(&shown.collect());
    }
    let rows: Vec<[String; 4]> = groups()
        .map(|group| {
            let belonging = |id: Option<&str>| id == Some(group.id.as_str());
            let keys = records.keys.iter();
            let keys = keys.filter(|k| k.revoked_ms.is_none() && belonging(k.group.as_deref()));
            [
                group.name.clone(),
                group.id.clone(),
                records.group_label(group.parent.as_deref()),
                keys.count().to_string(),
            ]
        })
        .collect();
    let nothing = format!("there are no {}s", level.name());
    print_table(["NAME", "ID", "BELONGS TO", "KEYS"], &rows, &nothing)
}

async fn delete(office: &Office, level: Level, name: &str, json: bool) -> anyhow::Result<()> {
    let records = Records::load(&office.store).await?;
    let group = records.group(level, name)?;
    refuse_declared(group.origin, level.name(), &group.name)?;
    office.store.delete_group(&office.actor, &group.id).await?;
    if json {
        return print_json(&json!({ "id": group.id, "deleted": true }));
    }
    println!("{} {} is deleted", level.name(), group.name);
    Ok(())
}
