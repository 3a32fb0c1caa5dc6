//! The report for people at a terminal.

use std::fmt::{self, Write as _};

use super::{Report, Routed, served::ServedReport};
use crate::evaluate::{
    figures::{Figure, Measured},
    judged::CostUnit,
    metrics::Interval,
};

/// Figures beside each other in one table.
const AT_THRESHOLDS: [Figure; 5] =
    [Figure::Quality, Figure::Cost, Figure::Pgr, Figure::Regret, Figure::Arena];
const OF_CURVE: [Figure; 6] =
    [Figure::Apgr, Figure::Cpt20, Figure::Cpt50, Figure::Cpt80, Figure::Aiq, Figure::EqualQuality];
const OF_SCORE: [Figure; 3] = [Figure::Auroc, Figure::Brier, Figure::Ece];

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

fn block(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    routed: &Routed,
    which: &[Figure],
) -> fmt::Result {
    writeln!(f, "{title}")?;
    let heading = std::iter::once("router").chain(which.iter().map(|figure| figure.heading()));
    let mut rows: Vec<Vec<String>> = vec![heading.map(str::to_owned).collect()];
    for router in &routed.routers {
        let cells = figures(&router.figures, which);
        if cells.iter().all(|cell| cell == "-") {
            continue;
        }
        rows.push(std::iter::once(router.name.clone()).chain(cells).collect());
    }
    if let Some(difference) = &routed.difference {
        let name = std::iter::once("model − against".to_owned());
        rows.push(name.chain(figures(difference, which)).collect());
    }
    table(f, &rows)?;
    writeln!(f)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows;
        writeln!(f, "{}: {} rows judged of {} read", self.name, rows.used, rows.read)?;
        write!(f, "model {}", self.model.name)?;
        if let Some(against) = &self.against {
            write!(f, ", against {}", against.name)?;
        }
        writeln!(f, "; intervals: 95 %, {} bootstrap draws, seed {}\n", self.draws, self.seed)?;
        if let Some(routed) = &self.routed {
            write!(f, "{routed}")?;
        }
        if let Some(served) = &self.served {
            write!(f, "{served}")?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Routed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Tiers (n = {}; cost: {})", self.n, unit(self.cost_unit))?;
        let heading = ["tier", "model", "below", "quality if all", "cost if all", "calls"];
        let mut rows: Vec<Vec<String>> = vec![heading.map(str::to_owned).to_vec()];
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
        table(f, &rows)?;
        writeln!(
            f,
            "The cheapest tier is worse than the strongest on {} of the rows.\n",
            self.event_rate
        )?;
        let title = "At the thresholds in force (baselines: the same mix of calls)";
        block(f, title, self, &AT_THRESHOLDS)?;
        block(
            f,
            "As the threshold moves between the cheapest and the strongest tier",
            self,
            &OF_CURVE,
        )?;
        block(f, "The score as the chance that the cheapest tier is worse", self, &OF_SCORE)?;
        self.confusion(f)?;
        self.categories(f)
    }
}

impl Routed {
    fn confusion(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Rows by the tier they were sent to and the cheapest of the best tiers")?;
        let names = || self.tiers.iter().map(|tier| tier.name.clone());
        let heading = names().map(|name| format!("best: {name}"));
        let mut rows = vec![std::iter::once("sent to".to_owned()).chain(heading).collect()];
        for (name, counts) in names().zip(&self.confusion) {
            let counts = counts.iter().map(ToString::to_string);
            rows.push(std::iter::once(name).chain(counts).collect::<Vec<_>>());
        }
        table(f, &rows)?;
        writeln!(f)
    }

    fn categories(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.categories.len() < 2 {
            return Ok(());
        }
        writeln!(f, "By category")?;
        let heading = ["category", "n", "cheapest", "strongest", "sent up", "APGR", "PGR"];
        let mut rows: Vec<Vec<String>> = vec![heading.map(str::to_owned).to_vec()];
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
        table(f, &rows)?;
        writeln!(f)
    }
}

impl fmt::Display for ServedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "As it was served (n = {}, judged {})", self.n, self.judged)?;
        let heading = ["model", "n", "judged", "quality", "dollars a thousand"];
        let mut rows: Vec<Vec<String>> = vec![heading.map(str::to_owned).to_vec()];
        for line in &self.models {
            rows.push(vec![
                line.name.clone(),
                line.n.to_string(),
                line.judged.to_string(),
                shown(line.quality),
                shown(line.usd_per_thousand),
            ]);
        }
        let (n, judged) = (self.n.to_string(), self.judged.to_string());
        rows.push(vec![
            "all".to_owned(),
            n,
            judged,
            shown(self.quality),
            shown(self.usd_per_thousand),
        ]);
        table(f, &rows)?;
        if let Some(arena) = self.arena {
            writeln!(f, "  arena score {arena:.4} (RouterArena)")?;
        }
        if let Some(scores) = &self.scores {
            let auroc = scores.auroc.map_or_else(|| "-".to_owned(), |auroc| format!("{auroc:.3}"));
            writeln!(
                f,
                "  recorded scores below the threshold (n = {}): {} did not do; AUROC {auroc}, Brier {:.3}, ECE {:.3}",
                scores.n, scores.failed, scores.brier, scores.ece
            )?;
        }
        writeln!(f)
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
