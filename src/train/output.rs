//! Writes a model directory: the base's encoder, the new head, checksums, a card.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::Trained;
use crate::{
    classify::model::{HEAD_FILE, ModelFiles, SUMS_FILE},
    evaluate::rows::Source,
};

/// The card inside a model directory.
const CARD_FILE: &str = "README.md";

/// Says no before any work is done: a head is only replaced with `force`.
pub fn check_free(out: &Path, force: bool) -> anyhow::Result<()> {
    let head = out.join(HEAD_FILE);
    if head.exists() && !force {
        bail!("{} exists; --force replaces it", head.display());
    }
    Ok(())
}

/// Writes everything; the head and the sums last, each in one step. Gives the paths written.
pub fn write(out: &Path, base: ModelFiles, trained: &Trained) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let base_name = base.name.clone();
    let head = trained.head.to_bytes(notes(trained))?;
    let files = base.with_head(head);
    let mut written = Vec::new();
    let card = out.join(CARD_FILE);
    if !card.exists() {
        written.push(replace(&card, card_text(out, &base_name, trained).as_bytes())?);
    }
    for (name, bytes) in files.all() {
        let path = out.join(name);
        if std::fs::read(&path).is_ok_and(|there| there == bytes) {
            continue;
        }
        written.push(replace(&path, bytes)?);
    }
    written.push(replace(&out.join(SUMS_FILE), files.sums_text().as_bytes())?);
    Ok(written)
}

/// Writes beside the file and renames, so that a reader never sees a half.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    let cannot = || format!("{} cannot be written", path.display());
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(cannot)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, bytes).with_context(cannot)?;
    std::fs::rename(&beside, path).with_context(cannot)?;
    Ok(path.to_owned())
}

/// The head's metadata: one entry, because the file format keeps no order among several and the
/// same training must give the same bytes.
fn notes(trained: &Trained) -> HashMap<String, String> {
    let notes = json!({
        "program": concat!("weighbridge ", env!("CARGO_PKG_VERSION")),
        "method": trained.method,
        "seed": trained.seed,
        "data": trained.sources,
        "rows": trained.rows,
        "recipe": trained.recipe,
        "held_out": trained.report,
    });
    HashMap::from([("training".to_owned(), notes.to_string())])
}

fn card_text(out: &Path, base: &str, trained: &Trained) -> String {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let mut text = format!(
        "# {name}\n\n{}\n\nEncoder: that of `{base}`. Head: {} rows, seed {}, weighbridge {}.\n\n",
        trained.method,
        trained.rows,
        trained.seed,
        env!("CARGO_PKG_VERSION")
    );
    text += "| data file | rows | SHA-256 |\n|---|---|---|\n";
    for Source { file, sha256, rows } in &trained.sources {
        text += &format!("| {file} | {rows} | {sha256} |\n");
    }
    text += "\n## Held-out figures\n\nWith 95 % bootstrap intervals over rows.\n\n";
    for table in &trained.report.tables {
        text += &table.markdown();
        text.push('\n');
    }
    for note in &trained.report.notes {
        text += &format!("{note}\n");
    }
    text += &format!("\nUse it: `weighbridge score --model {name} 'a prompt'`.\n");
    text
}
