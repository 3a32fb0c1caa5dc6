//! What training found out: tables for people, JSON for the head's metadata.

use std::fmt;

use serde::Serialize;

use crate::evaluate::metrics::Interval;

/// Held-out figures and what is to be said of them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// One kind of figure each.
    pub tables: Vec<Table>,
    /// Sentences.
    pub notes: Vec<String>,
}

/// Figures of several scores on several sets of rows.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// What was held out, and what the figures are.
    pub title: String,
    /// One score on one set of rows.
    pub lines: Vec<Line>,
}

/// The figures of one score on one set of rows.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The rows.
    pub on: String,
    /// How many.
    pub n: usize,
    /// Whose score.
    pub score: &'static str,
    /// `None` where a figure is undefined.
    pub figures: Vec<(&'static str, Option<Interval>)>,
}

impl Table {
    fn cells(&self) -> Vec<Vec<String>> {
        let mut names: Vec<&'static str> = Vec::new();
        for (name, _) in self.lines.iter().flat_map(|line| &line.figures) {
            if !names.contains(name) {
                names.push(name);
            }
        }
        let mut cells = vec![vec!["on".to_owned(), "n".to_owned(), "score".to_owned()]];
        cells.iter_mut().for_each(|head| head.extend(names.iter().map(|name| (*name).to_owned())));
        for line in &self.lines {
            let mut row = vec![line.on.clone(), line.n.to_string(), line.score.to_owned()];
            row.extend(names.iter().map(|name| {
                let found = line.figures.iter().find(|(of, _)| of == name);
                let interval = found.and_then(|(_, interval)| *interval);
                interval.map_or_else(|| "-".to_owned(), |interval| interval.to_string())
            }));
            cells.push(row);
        }
        cells
    }

    /// The table in Markdown, for a card.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.title);
        for (index, row) in self.cells().iter().enumerate() {
            text += &format!("| {} |\n", row.join(" | "));
            if index == 0 {
                text += &format!("|{}\n", "---|".repeat(row.len()));
            }
        }
        text
    }
}

/// Aligned columns.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let cells = self.cells();
        let width = |column: usize| {
            cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        for row in &cells {
            let padded: Vec<String> = row
                .iter()
                .enumerate()
                .map(|(column, cell)| format!("{cell:<0$}", width(column).unwrap_or(0)))
                .collect();
            writeln!(f, "  {}", padded.join("  ").trim_end())?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            writeln!(f, "{table}")?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_undefined_figures_shown_as_such() {
        let interval = Interval { value: 0.5, low: 0.4, high: 0.625 };
        let line = |on: &str, score, figure| Line {
            on: on.to_owned(),
            n: 7,
            score,
            figures: vec![("APGR", figure)],
        };
        let table = Table {
            title: "Held out".to_owned(),
            lines: vec![line("a", "head", Some(interval)), line("long", "words", None)],
        };
        assert_eq!(
            table.to_string(),
            "Held out\n  on    n  score  APGR\n  a     7  head   0.500 [0.400, 0.625]\n  long  7  words  -\n"
        );
        assert!(table.markdown().contains("|---|---|---|---|\n| a | 7 | head | 0.500"));
    }
}
