//! The plots of a report: frontier, calibration, scores, categories, confusion.

use super::{
    Report, Routed,
    svg::{Axis, Chart},
    text,
};
use crate::evaluate::figures::Figure;

/// Fewest rows of a category that is plotted.
const CATEGORY_ROWS: usize = 20;

/// A plot and the key that names it in files.
pub struct Plot {
    /// `frontier`, `calibration`, …
    pub key: &'static str,
    /// The chart.
    pub chart: Chart,
}

/// The plots of one report; none where nothing was routed.
pub fn plots(report: &Report) -> Vec<Plot> {
    let Some(routed) = &report.routed else { return Vec::new() };
    let plot = |key, chart| Plot { key, chart };
    let mut plots = vec![
        plot("frontier", frontier(routed)),
        plot("calibration", calibration(routed)),
        plot("scores", scores(routed)),
        plot("confusion", confusion(routed)),
    ];
    plots.extend(categories(routed).map(|chart| plot("categories", chart)));
    plots.retain(|plot| report.shows.part(plot.key));
    plots
}

/// The plots as files: names and contents.
pub fn files(report: &Report) -> Vec<(String, String)> {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let set: String = report.name.chars().map(allowed).collect();
    plots(report)
        .into_iter()
        .map(|plot| (format!("{set}-{}.svg", plot.key), plot.chart.finish(plot.key, true)))
        .collect()
}

/// Quality over cost: each router's curve, its point in force, and the tiers alone.
fn frontier(routed: &Routed) -> Chart {
    let points = || routed.routers.iter().flat_map(|router| &router.curve);
    let value = |router: &super::RouterLine, figure| {
        router.figures.get(figure).map_or(f64::NAN, |interval| interval.value)
    };
    let in_force = |figure| routed.routers.iter().map(move |router| value(router, figure));
    let unit = text::unit(routed.cost_unit);
    let costs = points().map(|point| point.cost).chain(in_force(Figure::Cost));
    let x = Axis::around(&format!("mean cost ({unit})"), costs);
    let qualities = points().map(|point| point.quality).chain(in_force(Figure::Quality));
    let y = Axis::around("mean score of the answers", qualities);
    let title = "Cost and quality";
    let description = format!(
        "Each line shows what a router gives as its threshold falls from sending nothing to sending everything to the strongest tier, over {} rows; dots show the thresholds in force.",
        routed.n
    );
    let mut chart = Chart::new(title, &description, x, y);
    for (at, router) in routed.routers.iter().enumerate() {
        if !router.curve.is_empty() {
            let points: Vec<(f64, f64)> =
                router.curve.iter().map(|point| (point.cost, point.quality)).collect();
            chart.line(at, &router.name, &points);
        }
    }
    // The model's point comes last, above all others.
    for (at, router) in routed.routers.iter().enumerate().rev() {
        let (cost, quality) = (value(router, Figure::Cost), value(router, Figure::Quality));
        let named = router.curve.is_empty().then_some(router.name.as_str());
        let title = format!("{}: cost {}, quality {quality:.3}", router.name, text::number(cost));
        chart.point(at, named, &title, cost, quality);
    }
    chart
}

/// Scores against what happened.
fn calibration(routed: &Routed) -> Chart {
    let x = Axis::unit("mean score of the group");
    let y = Axis::unit("share where the cheapest tier is worse");
    let description = format!(
        "Ten groups of equal count by score, {} rows; bars are 95 % intervals; a calibrated score lies on the diagonal.",
        routed.n
    );
    let mut chart = Chart::new("Calibration", &description, x, y);
    chart.line(2, "calibrated", &[(0.0, 0.0), (1.0, 1.0)]);
    let points: Vec<(f64, f64)> =
        routed.calibration.iter().map(|group| (group.score, group.rate.value)).collect();
    chart.line(0, "model", &points);
    for group in &routed.calibration {
        chart.interval(0, (group.score, group.rate.low), (group.score, group.rate.high));
        let title = format!(
            "n = {}: score {:.3}, share {}",
            group.n,
            group.score,
            text::shown(Some(group.rate))
        );
        chart.point(0, None, &title, group.score, group.rate.value);
    }
    chart
}

/// How the scores lie, with the thresholds.
fn scores(routed: &Routed) -> Chart {
    let bins = &routed.distribution;
    let tallest = bins.iter().map(|bin| bin.worse + bin.fine).max().unwrap_or(1) as f64;
    let y = Axis::around("rows", [0.0, tallest].into_iter());
    let description = "How many rows have a score in each twentieth of the range, split by whether the cheapest tier is worse there.";
    let mut chart = Chart::new("Scores", description, Axis::unit("score of the model"), y);
    for bin in bins {
        let (worse, all) = (bin.worse as f64, (bin.worse + bin.fine) as f64);
        let title = |name: &str, n| format!("{:.2} to {:.2}: {n} {name}", bin.from, bin.to);
        if bin.worse > 0 {
            chart.bar(1, &title("worse", bin.worse), (bin.from, 0.0), (bin.to, worse));
        }
        if bin.fine > 0 {
            chart.bar(0, &title("as good", bin.fine), (bin.from, worse), (bin.to, all));
        }
    }
    chart.bar_name(0, "cheapest is as good");
    chart.bar_name(1, "cheapest is worse");
    for below in routed.tiers.iter().filter_map(|tier| tier.below) {
        chart.upright(below, &format!("{below:.2}"));
    }
    chart
}

/// Rows by the tier they were sent to and the tier they needed.
fn confusion(routed: &Routed) -> Chart {
    let names: Vec<String> = routed.tiers.iter().map(|tier| tier.name.clone()).collect();
    let rows: Vec<String> = names.iter().map(|name| format!("sent to {name}")).collect();
    let description = "Each cell counts the rows that were sent to the row's tier and that the column's tier, the cheapest of the best ones, would have answered best.";
    let mut chart = Chart::matrix(
        "Confusion at the thresholds in force",
        description,
        "cheapest of the best tiers",
        &names,
        &rows,
    );
    for (chosen, counts) in routed.confusion.iter().enumerate() {
        for (best, count) in counts.iter().enumerate() {
            let share = *count as f64 / routed.n.max(1) as f64;
            let text = format!("{count} ({:.1} %)", 100.0 * share);
            // The vertical axis points down.
            let (top, bottom) = (chosen as f64, chosen as f64 + 1.0);
            chart.cell(&text, (best as f64, bottom), (best as f64 + 1.0, top), share);
        }
    }
    chart
}

/// APGR by category.
fn categories(routed: &Routed) -> Option<Chart> {
    let lines: Vec<_> = routed
        .categories
        .iter()
        .filter(|line| line.n >= CATEGORY_ROWS)
        .filter_map(|line| Some((line, line.figures.get(Figure::Apgr)?)))
        .filter(|(_, apgr)| apgr.low.is_finite() && apgr.high.is_finite())
        .collect();
    if lines.len() < 2 {
        return None;
    }
    // One data set need not be named on every row.
    let data_set = |name: &str| name.split_once(" / ").map(|(set, _)| set.to_owned());
    let first = lines.first().and_then(|(line, _)| data_set(&line.name));
    let shared = first
        .filter(|first| lines.iter().all(|(line, _)| data_set(&line.name).as_ref() == Some(first)));
    let shared = shared.map(|set| format!("{set} / ")).unwrap_or_default();
    let labels: Vec<String> = lines
        .iter()
        .map(|(line, _)| {
            format!("{} ({})", line.name.strip_prefix(&shared).unwrap_or(&line.name), line.n)
        })
        .collect();
    let x = Axis { label: "APGR (a random order: about 0.5)".to_owned(), from: -0.25, to: 1.25 };
    let description = "Average performance gap recovered by the model in each category, with 95 % intervals; intervals are cut at the edges.";
    let mut chart = Chart::rows("By category", description, x, &labels);
    chart.upright(0.5, "0.5");
    for (row, (line, apgr)) in lines.iter().enumerate() {
        let y = row as f64 + 0.5;
        let cut = |value: f64| value.clamp(-0.25, 1.25);
        chart.interval(0, (cut(apgr.low), y), (cut(apgr.high), y));
        let title = format!("{}: {}", line.name, text::shown(Some(*apgr)));
        chart.point(0, None, &title, cut(apgr.value), y);
    }
    Some(chart)
}
