//! The report's tables, and the report for people at a terminal.

use std::fmt::{self, Write as _};

use super::{
    Report, Routed, Shows,
    served::{ServedLine, ServedReport},
};
use crate::evaluate::{
    figures::{Figure, Measured},
    judged::CostUnit,
    metrics::Interval,
};

/// Figures beside each other in one table, and its title.
const AT_FIGURES: [Figure; 5] =
    [Figure::Quality, Figure::Cost, Figure::Pgr, Figure::Regret, Figure::Arena];
const AT_THRESHOLDS: &str = "At the thresholds in force, baselines with the same mix of calls";
const CURVE_FIGURES: [Figure; 6] =
    [Figure::Apgr, Figure::Cpt20, Figure::Cpt50, Figure::Cpt80, Figure::Aiq, Figure::EqualQuality];
const OF_CURVE: &str = "As the threshold moves between the cheapest and the strongest tier";
const SCORE_FIGURES: [Figure; 3] = [Figure::Auroc, Figure::Brier, Figure::Ece];
const OF_SCORE: &str = "The score as the chance that the cheapest tier is worse";

/// One table: the first row is its heading, the first column names the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Above it.
    pub title: String,
    /// Rows of one length.
    pub rows: Vec<Vec<String>>,
    /// Sentences below it.
    pub remarks: Vec<String>,
}

fn heading<const N: usize>(names: [&str; N]) -> Vec<Vec<String>> {
    vec![names.map(str::to_owned).to_vec()]
}

/// Aligned columns; the first is text, the others stand right.
pub fn table(f: &mut impl fmt::Write, rows: &[Vec<String>]) -> fmt::Result {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            if column == 0 {
                write!(line, "  {cell:<width$}")?;
            } else {
                write!(line, "  {cell:>width$}")?;
            }
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Three decimals, or three digits of a small number.
pub fn number(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.01 { format!("{value:.2e}") } else { format!("{value:.3}") }
}

/// `0.524 [0.513, 0.533]`; all three as small numbers when the value is one; `-` for none.
pub fn shown(interval: Option<Interval>) -> String {
    let Some(Interval { value, low, high }) = interval else { return "-".to_owned() };
    if value != 0.0 && value.abs() < 0.01 {
        return format!("{value:.2e} [{low:.2e}, {high:.2e}]");
    }
    format!("{value:.3} [{low:.3}, {high:.3}]")
}

/// What costs are in.
pub fn unit(unit: CostUnit) -> &'static str {
    match unit {
        CostUnit::Usd => "dollars a call",
        CostUnit::StrongShare => "share of strong calls, because the data has no costs",
    }
}

fn figures(measured: &Measured, which: &[Figure]) -> Vec<String> {
    which.iter().map(|figure| shown(measured.get(*figure))).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.summary())?;
        for part in self.tables() {
            writeln!(f, "{}", part.title)?;
            table(f, &part.rows)?;
            for remark in &part.remarks {
                writeln!(f, "{remark}")?;
            }
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}

impl Report {
    /// What was judged, in a sentence or two.
    pub fn summary(&self) -> String {
        let rows = self.rows;
        let against = self.against.as_ref().map(|against| format!(", against {}", against.name));
        format!(
            "{}: {} rows judged of {} read\nmodel {}{}; intervals: 95 %, {} bootstrap draws, seed {}",
            self.name,
            rows.used,
            rows.read,
            self.model.name,
            against.unwrap_or_default(),
            self.draws,
            self.seed
        )
    }

    /// Every table that is shown.
    pub fn tables(&self) -> Vec<Table> {
        let mut tables = Vec::new();
        if let Some(routed) = &self.routed {
            let parts = [
                ("tiers", Some(routed.tiers())),
                ("", routed.block(AT_THRESHOLDS, &AT_FIGURES, &self.shows)),
                ("", routed.block(OF_CURVE, &CURVE_FIGURES, &self.shows)),
                ("", routed.block(OF_SCORE, &SCORE_FIGURES, &self.shows)),
                ("confusion", Some(routed.confusion())),
                ("categories", routed.categories()),
            ];
            let is_shown = |part: &str| part.is_empty() || self.shows.part(part);
            let shown = parts.into_iter().filter(|(part, _)| is_shown(part));
            tables.extend(shown.filter_map(|(_, table)| table));
        }
        tables.extend(self.served.as_ref().map(ServedReport::table));
        tables
    }
}

impl Routed {
    fn tiers(&self) -> Table {
        let mut rows =
            heading(["tier", "model", "below", "quality if all", "cost if all", "calls"]);
        for tier in &self.tiers {
            let models: Vec<&str> = tier.models.keys().map(String::as_str).collect();
            rows.push(vec![
                tier.name.clone(),
                models.join(", "),
                tier.below.map_or_else(|| "-".to_owned(), |below| format!("{below:.3}")),
                shown(Some(tier.quality)),
                number(tier.cost),
                format!("{:.1} %", 100.0 * tier.calls),
            ]);
        }
        let event = format!(
            "The cheapest tier is worse than the strongest on {} of the rows.",
            self.event_rate
        );
        let title = format!("Tiers (n = {}; cost: {})", self.n, unit(self.cost_unit));
        Table { title, rows, remarks: vec![event] }
    }

    /// Some figures of every router; `None` when none of them is shown.
    fn block(&self, title: &str, which: &[Figure], shows: &Shows) -> Option<Table> {
        let which: Vec<Figure> =
            which.iter().copied().filter(|figure| shows.part(figure.key())).collect();
        if which.is_empty() {
            return None;
        }
        let headings = which.iter().map(|figure| figure.heading().to_owned());
        let mut rows: Vec<Vec<String>> =
            vec![std::iter::once("router".to_owned()).chain(headings).collect()];
        for router in &self.routers {
            let cells = figures(&router.figures, &which);
            if cells.iter().any(|cell| cell != "-") {
                rows.push(std::iter::once(router.name.clone()).chain(cells).collect());
            }
        }
        if let Some(difference) = &self.difference {
            let name = std::iter::once("model − against".to_owned());
            rows.push(name.chain(figures(difference, &which)).collect());
        }
        Some(Table { title: format!("{title}, n = {}", self.n), rows, remarks: Vec::new() })
    }

    fn confusion(&self) -> Table {
        let names = || self.tiers.iter().map(|tier| tier.name.clone());
        let best = names().map(|name| format!("best: {name}"));
        let mut rows: Vec<Vec<String>> =
            vec![std::iter::once("sent to".to_owned()).chain(best).collect()];
        for (name, counts) in names().zip(&self.confusion) {
            let counts = counts.iter().map(ToString::to_string);
            rows.push(std::iter::once(name).chain(counts).collect());
        }
        let title = "Rows by the tier they were sent to and the cheapest of the best tiers";
        Table { title: title.to_owned(), rows, remarks: Vec::new() }
    }

    /// `None` when there is one category.
    fn categories(&self) -> Option<Table> {
        if self.categories.len() < 2 {
            return None;
        }
        let mut rows =
            heading(["category", "n", "cheapest", "strongest", "sent up", "APGR", "PGR"]);
        for line in &self.categories {
            rows.push(vec![
                line.name.clone(),
                line.n.to_string(),
                format!("{:.3}", line.weak),
                format!("{:.3}", line.strong),
                format!("{:.1} %", 100.0 * line.sent),
                shown(line.figures.get(Figure::Apgr)),
                shown(line.figures.get(Figure::Pgr)),
            ]);
        }
        Some(Table { title: "By category".to_owned(), rows, remarks: Vec::new() })
    }
}

impl ServedReport {
    fn table(&self) -> Table {
        let mut rows = heading(["model", "n", "judged", "quality", "dollars a thousand"]);
        let all = ServedLine {
            name: "all".to_owned(),
            n: self.n,
            judged: self.judged,
            quality: self.quality,
            usd_per_thousand: self.usd_per_thousand,
        };
        for line in self.models.iter().chain([&all]) {
            rows.push(vec![
                line.name.clone(),
                line.n.to_string(),
                line.judged.to_string(),
                shown(line.quality),
                shown(line.usd_per_thousand),
            ]);
        }
        let arena = self.arena.map(|arena| format!("Arena score {arena:.4} (RouterArena)."));
        let scores = self.scores.as_ref().map(|scores| {
            let auroc = scores.auroc.map_or_else(|| "-".to_owned(), |auroc| format!("{auroc:.3}"));
            format!(
                "Recorded scores below the threshold (n = {}): {} did not do; AUROC {auroc}, Brier {:.3}, ECE {:.3}.",
                scores.n, scores.failed, scores.brier, scores.ece
            )
        });
        let title = format!("As it was served (n = {}, judged {})", self.n, self.judged);
        Table { title, rows, remarks: arena.into_iter().chain(scores).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut text = String::new();
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        table(&mut text, &[row("router", "n"), row("λ", "100")]).unwrap();
        assert_eq!(text, "  router    n\n  λ       100\n");
        assert_eq!(shown(None), "-");
        let interval = Interval { value: 0.0021, low: 0.002, high: 0.0022 };
        assert_eq!(shown(Some(interval)), "2.10e-3 [2.00e-3, 2.20e-3]");
    }
}
