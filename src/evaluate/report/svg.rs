//! A small writer of charts: axes, lines, points, bars, labels. No chart knows another size or
//! colour than those of this file.
//!
//! Colours come from CSS variables that [`STYLE`] defines for light and dark surroundings, so a
//! chart fits a page and stands alone. Series are told apart by dash and label too, not by colour
//! alone. Every chart has a title and a description for readers that do not see it.

use std::fmt::Write as _;

/// Width of a chart in its own units.
const WIDTH: f64 = 720.0;
/// Height of a chart.
const HEIGHT: f64 = 400.0;
/// Height of the title of a chart that stands alone.
const TITLE: f64 = 34.0;
/// Width of a letter, on average and a little more (measured on sans-serif of 13 px).
const LETTER: f64 = 7.2;
/// Letters of a row's name that are shown at most.
const MOST_LETTERS: usize = 48;
/// Left, top, right and bottom edges of what is plotted.
const FRAME: (f64, f64, f64, f64) = (64.0, 20.0, 540.0, 340.0);

/// Colours and type of every chart.
pub const STYLE: &str = "svg{--ink:#1c2530;--faint:#8793a1;--tick:#56616d;--grid:#dde3ea;--paper:#fff;--c0:#0b62c4;--c1:#b4430b;--c2:#6b7683;--c3:#157a4a;--c4:#8a3ea8;--c5:#9a6b00;--c6:#c0267e;--c7:#35808f;font:13px system-ui,sans-serif;background:var(--paper)}@media(prefers-color-scheme:dark){svg{--ink:#e6ebf1;--faint:#8b97a5;--tick:#a8b3bf;--grid:#313b47;--paper:#161b22;--c0:#6fb1ff;--c1:#ff9d66;--c2:#a8b3bf;--c3:#63d39b;--c4:#d59bf0;--c5:#e6bd55;--c6:#ff8cc6;--c7:#7fd0e0}}svg text{fill:var(--ink)}svg .tick{fill:var(--tick);font-size:11px}svg .grid{stroke:var(--grid)}svg .axis{stroke:var(--faint)}";

/// Dashes of the series, by number.
const DASHES: [&str; 8] = ["", "7 3", "2 3", "9 3 2 3", "5 2", "1 2", "12 4", "4 4 1 4"];

/// Text that may stand in XML.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() && c != '\n' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A range of values along one axis.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What the values are, with their unit.
    pub label: String,
    /// The least value.
    pub from: f64,
    /// The greatest value.
    pub to: f64,
}

impl Axis {
    /// An axis that holds all values, with a little room and round ends.
    pub fn around(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let finite = values.filter(|value| value.is_finite());
        let (mut from, mut to) =
            finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        if from > to {
            (from, to) = (0.0, 1.0);
        }
        if to - from < 1e-12 {
            (from, to) = (from - 0.5 * from.abs().max(1e-6), to + 0.5 * to.abs().max(1e-6));
        }
        let step = step(to - from);
        Self {
            label: label.to_owned(),
            from: (from / step).floor() * step,
            to: (to / step).ceil() * step,
        }
    }

    /// From 0 to 1.
    pub fn unit(label: &str) -> Self {
        Self { label: label.to_owned(), from: 0.0, to: 1.0 }
    }

    fn ticks(&self) -> Vec<f64> {
        let step = step(self.to - self.from);
        let first = (self.from / step - 1e-9).ceil();
        let mut ticks = Vec::new();
        while (first + ticks.len() as f64) * step <= self.to + 1e-9 * step && ticks.len() < 20 {
            ticks.push((first + ticks.len() as f64) * step);
        }
        ticks
    }

    fn shown(&self, value: f64) -> String {
        let step = step(self.to - self.from);
        if step < 1e-4 {
            return if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}") };
        }
        let digits = (-step.log10().floor()).max(0.0) as usize;
        format!("{:.digits$}", if value == 0.0 { 0.0 } else { value })
    }
}

/// A distance between ticks of 1, 2 or 5 times a power of ten that gives four to ten of them.
fn step(span: f64) -> f64 {
    let rough = span.abs().max(1e-12) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0];
    times.into_iter().find(|times| times * power >= rough).unwrap_or(10.0) * power
}

/// A chart on its way.
pub struct Chart {
    x: Axis,
    y: Axis,
    body: String,
    legend: String,
    entries: usize,
    uprights: usize,
    height: f64,
    frame: (f64, f64, f64, f64),
    title: String,
    description: String,
}

impl Chart {
    /// Axes and grid.
    pub fn new(title: &str, description: &str, x: Axis, y: Axis) -> Self {
        let mut chart = Self::bare(title, description, x, y, HEIGHT, FRAME);
        chart.grid(true);
        chart
    }

    /// One row a label instead of a vertical axis; higher with more rows.
    pub fn rows(title: &str, description: &str, x: Axis, labels: &[String]) -> Self {
        let rows = labels.len() as f64;
        let frame = (beside(labels), 16.0, 690.0, 16.0 + 20.0 * rows);
        let y = Axis { label: String::new(), from: rows, to: 0.0 };
        let mut chart = Self::bare(title, description, x, y, frame.3 + 52.0, frame);
        chart.grid(false);
        chart.row_labels(labels);
        chart
    }

    /// A table of cells with names on both sides; `label` says what the columns are.
    pub fn matrix(
        title: &str,
        description: &str,
        label: &str,
        columns: &[String],
        rows: &[String],
    ) -> Self {
        let height = 44.0 * rows.len() as f64;
        let frame = (beside(rows), 16.0, 690.0, 16.0 + height);
        let x = Axis { label: label.to_owned(), from: 0.0, to: columns.len() as f64 };
        let y = Axis { label: String::new(), from: rows.len() as f64, to: 0.0 };
        let mut chart = Self::bare(title, description, x, y, frame.3 + 52.0, frame);
        let room = (frame.2 - frame.0) / columns.len().max(1) as f64;
        for (at, name) in columns.iter().enumerate() {
            let x = chart.across(at as f64 + 0.5);
            let name = cut(name, (room / LETTER) as usize);
            let _ = write!(
                chart.body,
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                frame.3 + 16.0,
                escaped(&name)
            );
        }
        chart.axis_label();
        chart.row_labels(rows);
        chart
    }

    fn row_labels(&mut self, labels: &[String]) {
        for (row, label) in labels.iter().enumerate() {
            let short = cut(label, MOST_LETTERS);
            let y = self.down(row as f64 + 0.5) + 4.0;
            let _ = write!(
                self.body,
                "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"end\"><title>{}</title>{}</text>",
                self.frame.0 - 8.0,
                escaped(label),
                escaped(&short)
            );
        }
    }

    fn bare(
        title: &str,
        description: &str,
        x: Axis,
        y: Axis,
        height: f64,
        frame: (f64, f64, f64, f64),
    ) -> Self {
        let (title, description) = (title.to_owned(), description.to_owned());
        let (body, legend) = (String::new(), String::new());
        Self { x, y, body, legend, entries: 0, uprights: 0, height, frame, title, description }
    }

    /// What it shows, in some words.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// What it shows and how it is read.
    pub fn description(&self) -> &str {
        &self.description
    }

    fn across(&self, value: f64) -> f64 {
        let (left, _, right, _) = self.frame;
        left + (value - self.x.from) / (self.x.to - self.x.from) * (right - left)
    }

    fn down(&self, value: f64) -> f64 {
        let (_, top, _, bottom) = self.frame;
        bottom - (value - self.y.from) / (self.y.to - self.y.from) * (bottom - top)
    }

    fn grid(&mut self, with_y: bool) {
        let (left, top, right, bottom) = self.frame;
        for tick in self.x.ticks() {
            let (x, shown) = (self.across(tick), self.x.shown(tick));
            let _ = write!(
                self.body,
                "<path class=\"grid\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{shown}</text>",
                bottom + 16.0
            );
        }
        if with_y {
            for tick in self.y.ticks() {
                let (y, shown) = (self.down(tick), self.y.shown(tick));
                let _ = write!(
                    self.body,
                    "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{shown}</text>",
                    left - 6.0,
                    y + 4.0
                );
            }
            let middle = (top + bottom) / 2.0;
            let _ = write!(
                self.body,
                "<text x=\"14\" y=\"{middle:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {middle:.1})\">{}</text>",
                escaped(&self.y.label)
            );
        }
        let _ = write!(
            self.body,
            "<path class=\"axis\" fill=\"none\" d=\"M{left:.1} {top:.1}V{bottom:.1}H{right:.1}\"/>"
        );
        self.axis_label();
    }

    fn axis_label(&mut self) {
        let (left, _, right, bottom) = self.frame;
        let _ = write!(
            self.body,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            (left + right) / 2.0,
            bottom + 38.0,
            escaped(&self.x.label)
        );
    }

    /// A line through points.
    pub fn line(&mut self, series: usize, name: &str, points: &[(f64, f64)]) {
        let mut path = String::new();
        for (at, (x, y)) in points.iter().enumerate() {
            let command = if at == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", self.across(*x), self.down(*y));
        }
        let stroke = stroke(series);
        let _ = write!(
            self.body,
            "<path fill=\"none\" {stroke} d=\"{path}\"><title>{}</title></path>",
            escaped(name)
        );
        let (x, y) = self.entry(name);
        let _ = write!(self.legend, "<path {stroke} d=\"M{x:.1} {:.1}h26\"/>", y - 4.0);
    }

    /// A point; with a name it gets a place in the legend.
    pub fn point(&mut self, series: usize, name: Option<&str>, title: &str, x: f64, y: f64) {
        let fill = colour(series);
        let mark = |x: f64, y: f64, title: &str| {
            format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{fill}\" stroke=\"var(--paper)\"><title>{}</title></circle>",
                escaped(title)
            )
        };
        self.body += &mark(self.across(x), self.down(y), title);
        if let Some(name) = name {
            let (x, y) = self.entry(name);
            self.legend += &mark(x + 13.0, y - 4.0, name);
        }
    }

    /// An interval, upright or lying.
    pub fn interval(&mut self, series: usize, from: (f64, f64), to: (f64, f64)) {
        let _ = write!(
            self.body,
            "<path stroke=\"{}\" stroke-width=\"1.5\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
            colour(series),
            self.across(from.0),
            self.down(from.1),
            self.across(to.0),
            self.down(to.1)
        );
    }

    /// A bar between two corners.
    pub fn bar(&mut self, series: usize, title: &str, from: (f64, f64), to: (f64, f64)) {
        let (x, y) = (self.across(from.0), self.down(to.1));
        let _ = write!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\" stroke=\"var(--paper)\"><title>{}</title></rect>",
            self.across(to.0) - x,
            self.down(from.1) - y,
            colour(series),
            escaped(title)
        );
    }

    /// A place in the legend for bars of a series.
    pub fn bar_name(&mut self, series: usize, name: &str) {
        let (x, y) = self.entry(name);
        let _ = write!(
            self.legend,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"14\" height=\"11\" fill=\"{}\"/>",
            x + 6.0,
            y - 10.0,
            colour(series)
        );
    }

    /// A mark along the whole height.
    pub fn upright(&mut self, x: f64, name: &str) {
        let (_, top, _, bottom) = self.frame;
        let x = self.across(x);
        let _ = write!(
            self.body,
            "<path stroke=\"var(--ink)\" stroke-dasharray=\"3 3\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"><title>{0}</title></path><text class=\"tick\" x=\"{1:.1}\" y=\"{2:.1}\">{0}</text>",
            escaped(name),
            x + 4.0,
            // Neighbours do not write over each other.
            top + 11.0 + 13.0 * (self.uprights % 4) as f64
        );
        self.uprights += 1;
    }

    /// Text in a cell of a table; `strength` in 0..=1 shades it.
    pub fn cell(&mut self, text: &str, from: (f64, f64), to: (f64, f64), strength: f64) {
        let (x, y) = (self.across(from.0), self.down(to.1));
        let (width, height) = (self.across(to.0) - x, self.down(from.1) - y);
        let _ = write!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"var(--c0)\" fill-opacity=\"{:.2}\" stroke=\"var(--paper)\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            0.05 + 0.4 * strength,
            x + width / 2.0,
            y + height / 2.0 + 4.0,
            escaped(text)
        );
    }

    fn entry(&mut self, name: &str) -> (f64, f64) {
        let (x, y) = (self.frame.2 + 14.0, self.frame.1 + 12.0 + 20.0 * self.entries as f64);
        self.entries += 1;
        let _ = write!(
            self.legend,
            "<text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            x + 34.0,
            escaped(name)
        );
        (x, y)
    }

    /// The chart as one element; with namespace, style and a visible title where it is `alone` in
    /// a file.
    pub fn finish(self, id: &str, alone: bool) -> String {
        let title = escaped(&self.title);
        let (namespace, top, head) = if alone {
            let head = format!(
                "<style>{STYLE}</style><text x=\"14\" y=\"-12\" font-size=\"16\" font-weight=\"600\">{title}</text>"
            );
            (" xmlns=\"http://www.w3.org/2000/svg\"", TITLE, head)
        } else {
            ("", 0.0, String::new())
        };
        format!(
            "<svg{namespace} viewBox=\"0 {:.0} {WIDTH} {:.0}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{title}</title><desc id=\"{id}-d\">{}</desc>{head}{}{}</svg>",
            -top,
            self.height + top,
            escaped(&self.description),
            self.body,
            self.legend
        )
    }
}

/// The left edge of a plot that has these names beside its rows.
fn beside(labels: &[String]) -> f64 {
    let longest = labels.iter().map(|label| letters(label)).max().unwrap_or(0);
    24.0 + LETTER * longest.clamp(6, MOST_LETTERS) as f64
}

/// Width of a text in letters; from the Hangul Jamo on (U+1100) most scripts are twice as wide.
fn letters(text: &str) -> usize {
    text.chars().map(wide).sum()
}

fn wide(c: char) -> usize {
    if ('\u{1100}'..'\u{1e000}').contains(&c) && !('\u{1e00}'..'\u{2e80}').contains(&c) {
        2
    } else {
        1
    }
}

/// At most so many letters, without those in the middle: names often differ at their end.
fn cut(name: &str, most: usize) -> String {
    if letters(name) <= most {
        return name.to_owned();
    }
    let end = most.saturating_sub(1) / 2;
    let start = most.saturating_sub(1) - end;
    let within = |room: usize| {
        let mut used = 0;
        move |c: &char| {
            used += wide(*c);
            used <= room
        }
    };
    let head: String = name.chars().take_while(within(start)).collect();
    let tail: Vec<char> = name.chars().rev().take_while(within(end)).collect();
    head + "…" + &tail.into_iter().rev().collect::<String>()
}

fn colour(series: usize) -> String {
    format!("var(--c{})", series % 8)
}

fn stroke(series: usize) -> String {
    let dash = DASHES.get(series % 8).copied().unwrap_or_default();
    let width = if series == 0 { 2.5 } else { 1.5 };
    let dash =
        if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
    format!("stroke=\"{}\" stroke-width=\"{width}\"{dash}", colour(series))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_values() {
        let axis = Axis::around("x", [0.513, 0.97].into_iter());
        assert!((axis.from - 0.5).abs() < 1e-9 && (axis.to - 1.0).abs() < 1e-9, "{axis:?}");
        let ticks: Vec<String> = axis.ticks().iter().map(|tick| axis.shown(*tick)).collect();
        assert_eq!(ticks, ["0.5", "0.6", "0.7", "0.8", "0.9", "1.0"]);
        assert!(Axis::around("x", std::iter::empty()).ticks().len() > 2);
        assert!(Axis::around("x", [3.0, 3.0].into_iter()).ticks().len() > 2);
    }

    #[test]
    fn long_names_lose_their_middle_and_short_ones_nothing() {
        assert_eq!(cut("abcdefgh", 5), "ab…gh");
        assert_eq!(cut("abcde", 5), "abcde");
        assert_eq!(cut("数学の証明と導出", 9), "数学…導出", "wide letters take two places");
        let long = "x".repeat(200);
        assert!(beside(std::slice::from_ref(&long)) < 0.6 * WIDTH);
        let chart = Chart::rows("t", "d", Axis::unit("x"), &[long]);
        let (left, ..) = chart.frame;
        assert!(left - 8.0 - LETTER * MOST_LETTERS as f64 > 0.0, "the name begins inside");
    }

    #[test]
    fn names_cannot_break_the_markup() {
        assert_eq!(escaped("<a & \"b\">\u{7}"), "&lt;a &amp; &quot;b&quot;&gt; ");
    }
}
