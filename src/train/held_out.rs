//! Held-out scores in a file, so that two ways of making a head are compared row by row.

use std::{collections::HashMap, io::Write as _, path::Path};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::evaluate::rows::{Data, Row};

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// The row's data set.
    pub dataset: String,
    /// The row.
    pub id: String,
    /// Its raw score, higher for harder, by a fit that did not see it.
    pub score: f64,
}

/// The rows of `data` with their scores.
pub fn of(data: &Data, scores: &[f64]) -> Vec<HeldOut> {
    let line = |(row, score): (&Row, &f64)| HeldOut {
        dataset: row.dataset.clone(),
        id: row.id.clone(),
        score: *score,
    };
    data.rows.iter().zip(scores).map(line).collect()
}

/// Writes JSON Lines.
pub fn write(path: &Path, lines: &[HeldOut]) -> anyhow::Result<()> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line)?;
        writeln!(text)?;
    }
    std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

/// Another run's score of each row of `data`.
pub fn read(path: &Path, data: &Data) -> anyhow::Result<Vec<f64>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
    let mut scores = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        let line: HeldOut =
            serde_json::from_str(line).with_context(|| format!("{shown}:{}", at + 1))?;
        scores.insert((line.dataset, line.id), line.score);
    }
    let score = |row: &Row| match scores.get(&(row.dataset.clone(), row.id.clone())) {
        Some(score) => Ok(*score),
        None => bail!("{shown} has no score of {} in {}", row.id, row.dataset),
    };
    data.rows.iter().map(score).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::rows::{Label, Row};

    #[test]
    fn scores_come_back_by_row_and_a_missing_one_is_named() {
        let row = |id: &str| Row {
            id: id.to_owned(),
            dataset: "set".to_owned(),
            category: String::new(),
            text: String::new(),
            label: Label::Difficulty(0.5),
        };
        let mut data = Data { rows: vec![row("a"), row("b")], ..Data::default() };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scores.jsonl");
        write(&path, &of(&data, &[0.25, -1.5])).unwrap();
        data.rows.reverse();
        assert_eq!(read(&path, &data).unwrap(), [-1.5, 0.25]);
        data.rows.push(row("c"));
        assert!(read(&path, &data).unwrap_err().to_string().contains("has no score of c in set"));
    }
}
