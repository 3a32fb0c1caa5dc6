//! The held-out figures of a general head, with prompt length and chance beside them.
//!
//! Routing is measured on the recipe's pairs within each data set that was left out; order and
//! calibration against the difficulty; authored prompts by whether easy and hard ones are told
//! apart. Intervals are bootstraps over prompts; the mean over data sets weighs each the same.

use std::collections::BTreeMap;

use super::{
    labels::{AUTHORED, groups},
    platt::Platt,
    recipe::Recipe,
    report::{Line, Report, Table},
};
use crate::evaluate::{
    metrics::{Draws, Interval, apgr, apgr_of_decisions, auroc, brier, ece, spearman},
    random::Random,
    rows::{Data, Label, Row},
};

/// Bootstrap draws of each figure.
const DRAWS: usize = 300;
/// Margins at which the static stage may decide alone, in probability.
const MARGINS: [(&str, f64); 6] = [
    ("margin 0.05", 0.05),
    ("margin 0.07", 0.07),
    ("margin 0.10", 0.10),
    ("margin 0.15", 0.15),
    ("margin 0.20", 0.20),
    ("never alone", 1.0),
];
/// Where the shipped policy splits.
pub const SPLIT: f64 = 0.42;
/// A pair whose models are closer than this on a data set says nothing of routing there.
const LEAST_GAP: f64 = 0.03;
/// Authored prompts up to this difficulty are called easy.
const EASY: f64 = 0.25;
/// And those from this difficulty on hard.
const HARD: f64 = 0.6;
/// Thresholds at which the levels of authored prompts are shown.
const THRESHOLDS: [(&str, f64); 2] = [("threshold 0.42", 0.42), ("threshold 0.50", 0.5)];
/// Scores that are always compared; [`Judge::against`] comes after them.
const SCORES: [&str; 3] = ["head", "words", "random"];
/// The run compared with.
const AGAINST: &str = "against";

/// What is judged.
pub struct Judge<'a> {
    /// The rows.
    pub data: &'a Data,
    /// For its pairs and anchors.
    pub recipe: &'a Recipe,
    /// Of each row.
    pub difficulty: Vec<f64>,
    /// The raw score of each row by a fit that did not see it.
    pub held_out: Vec<f64>,
    /// What the static stages of those fits said.
    pub staged: Vec<f64>,
    /// Another run's held-out scores of the same rows, for a paired comparison.
    pub against: Option<Vec<f64>>,
    /// The calibration.
    pub platt: Platt,
    /// Of the bootstrap draws and of the random baseline.
    pub seed: u64,
}

impl Judge<'_> {
    /// All tables.
    pub fn report(&self) -> Report {
        let groups = groups(self.data);
        let mut report = Report::default();
        let mut routing = Table {
            title: "Routing on data sets that training never saw (each left out in turn; mean over the recipe's pairs)".to_owned(),
            lines: Vec::new(),
        };
        let mut order = Table {
            title: "Order and calibration on held-out rows (event: a mid-strength model fails, at the anchors' level)".to_owned(),
            lines: Vec::new(),
        };
        let mut judged: Vec<Vec<Routing>> = Vec::new();
        let mut judged_rows = 0;
        for (group, rows) in &groups {
            order.lines.push(self.order(group, rows));
            if *group == AUTHORED {
                continue;
            }
            let pairs = self.pairs(group, rows);
            if pairs.is_empty() {
                report.notes.push(format!(
                    "{group}: the recipe names no pair with results here, so routing is not measured."
                ));
                continue;
            }
            let of_group = self.routing(rows, &pairs);
            routing.lines.extend(lines(group, rows.len(), &of_group));
            judged.push(of_group);
            judged_rows += rows.len();
        }
        if !judged.is_empty() {
            let mean = |score: usize| {
                let of: Vec<&Routing> = judged.iter().filter_map(|set| set.get(score)).collect();
                let draws = |pick: fn(&Routing) -> &Draws| -> Draws {
                    Draws::mean(&of.iter().map(|set| pick(set).clone()).collect::<Vec<_>>())
                };
                Routing { area: draws(|set| &set.area), roc: draws(|set| &set.roc) }
            };
            let scores = judged.first().map_or(0, Vec::len);
            let means: Vec<Routing> = (0..scores).map(mean).collect();
            routing.lines.extend(lines("mean", judged_rows, &means));
        }
        report.tables = vec![routing, order];
        if let Some(rows) = groups.get(AUTHORED) {
            report.tables.push(self.authored(rows));
        }
        report.tables.push(self.cascade(&groups));
        report.notes.extend(self.idle_anchors());
        report
    }

    /// The score of each row under each of [`SCORES`], then under the run compared with.
    fn scores(&self) -> Vec<Vec<f64>> {
        let mut random = Random::new(self.seed ^ 0x5eed);
        let random = self.data.rows.iter().map(|_| random.uniform()).collect();
        let always = [self.held_out.clone(), self.words(), random];
        always.into_iter().chain(self.against.clone()).collect()
    }

    fn words(&self) -> Vec<f64> {
        self.data.rows.iter().map(Row::words).collect()
    }

    fn routing(&self, rows: &[usize], pairs: &[Pair]) -> Vec<Routing> {
        let draws = |scores: &[f64], measure: fn(&Pair, &[f64], &[usize]) -> Option<f64>| {
            Draws::new(rows.len(), DRAWS, self.seed, |drawn| {
                mean(pairs.iter().filter_map(|pair| measure(pair, scores, drawn)))
            })
        };
        let judge = |scores: &Vec<f64>| Routing {
            area: draws(scores, Pair::apgr),
            roc: draws(scores, Pair::auroc),
        };
        self.scores().iter().map(judge).collect()
    }

    /// The recipe's pairs with a gap on these rows.
    fn pairs(&self, group: &str, rows: &[usize]) -> Vec<Pair> {
        let (mut graded, mut answers) = (0, 0);
        for row in rows.iter().filter_map(|row| self.data.rows.get(*row)) {
            if let Label::Answers(of) = &row.label {
                answers += of.len();
                graded += of.iter().filter(|(_, score)| *score > 0.0 && *score < 1.0).count();
            }
        }
        // Where most scores are graded, differences are small and the bar is lower.
        let clear = if 2 * graded > answers { 0.2 } else { 0.5 };
        let pair = |names: &[String; 2]| {
            let [strong, weak] = names;
            let (strong, weak) = (self.data.model(strong).ok()?, self.data.model(weak).ok()?);
            let gain = |row: usize| {
                let row = self.data.rows.get(row)?;
                Some(row.score(strong)? - row.score(weak)?)
            };
            let rows: Vec<_> = rows.iter().map(|row| (*row, gain(*row))).collect();
            let gap = mean(rows.iter().filter_map(|(_, gain)| *gain))?;
            (gap >= LEAST_GAP).then_some(Pair { rows, clear })
        };
        self.recipe.pairs.get(group).into_iter().flatten().filter_map(pair).collect()
    }

    /// How well the order of the rows and the level of the score meet their difficulty.
    fn order(&self, group: &str, rows: &[usize]) -> Line {
        let words = self.words();
        let probabilities: Vec<f64> =
            self.held_out.iter().map(|raw| self.platt.probability(*raw)).collect();
        let labels: Vec<f64> = self.difficulty.iter().map(|label| label.clamp(0.0, 1.0)).collect();
        let figure = |scores: &[f64], measure: fn(&[f64], &[f64]) -> f64| -> Option<Interval> {
            let draws = Draws::new(rows.len(), DRAWS, self.seed, |drawn| {
                Some(measure(&gather(scores, rows, drawn), &gather(&labels, rows, drawn)))
            });
            draws.interval()
        };
        Line {
            on: group.to_owned(),
            n: rows.len(),
            score: "head",
            figures: vec![
                ("Spearman", figure(&probabilities, spearman)),
                ("Spearman of words", figure(&words, spearman)),
                ("ECE", figure(&probabilities, ece)),
                ("Brier", figure(&probabilities, brier)),
            ],
        }
    }

    /// Are easy and hard authored prompts told apart, and on which side of a threshold are they?
    fn authored(&self, rows: &[usize]) -> Table {
        let difficulty = |row: usize| self.difficulty.get(row).copied().unwrap_or(0.5);
        let is_clear = |row: &usize| difficulty(*row) <= EASY || difficulty(*row) >= HARD;
        let clear: Vec<usize> = rows.iter().copied().filter(is_clear).collect();
        let hard: Vec<bool> = clear.iter().map(|row| difficulty(*row) >= HARD).collect();
        let class = |drawn: &[usize]| -> Vec<bool> {
            drawn.iter().filter_map(|at| hard.get(*at).copied()).collect()
        };
        let line =
            |on: &str, score, figures| Line { on: on.to_owned(), n: clear.len(), score, figures };
        let mut lines = Vec::new();
        for (name, scores) in names().zip(self.scores()) {
            let separation = Draws::new(clear.len(), DRAWS, self.seed, |drawn| {
                auroc(&gather(&scores, &clear, drawn), &class(drawn))
            });
            lines.push(line("easy v hard", name, vec![("AUROC", separation.interval())]));
        }
        for (on, threshold) in THRESHOLDS {
            let side = |of_hard: bool| {
                let share = Draws::new(clear.len(), DRAWS, self.seed, |drawn| {
                    let raw = gather(&self.held_out, &clear, drawn);
                    let of_class =
                        raw.iter().zip(class(drawn)).filter(|(_, hard)| *hard == of_hard);
                    let right = of_class.map(|(raw, hard)| {
                        f64::from(u8::from((self.platt.probability(*raw) >= threshold) == hard))
                    });
                    mean(right)
                });
                share.interval()
            };
            let figures = vec![("easy below", side(false)), ("hard above", side(true))];
            lines.push(line(on, "head", figures));
        }
        Table {
            title: format!(
                "Authored prompts, held out in folds: easy (difficulty ≤ {EASY}) against hard (≥ {HARD})"
            ),
            lines,
        }
    }

    /// How much of the work the static stage takes over, and what that costs.
    fn cascade(&self, groups: &BTreeMap<&str, Vec<usize>>) -> Table {
        let probabilities = |raw: &[f64]| -> Vec<f64> {
            raw.iter().map(|raw| self.platt.probability(*raw)).collect()
        };
        let (whole, staged) = (probabilities(&self.held_out), probabilities(&self.staged));
        let sets: Vec<(&Vec<usize>, Vec<Pair>)> = groups
            .iter()
            .filter(|(group, _)| **group != AUTHORED)
            .map(|(group, rows)| (rows, self.pairs(group, rows)))
            .filter(|(_, pairs)| !pairs.is_empty())
            .collect();
        let n = sets.iter().map(|(rows, _)| rows.len()).sum();
        let mut lines = Vec::new();
        for (name, margin) in MARGINS {
            let cascade = Cascade { whole: &whole, staged: &staged, margin };
            let lost = sets.iter().map(|(rows, pairs)| {
                Draws::new(rows.len(), DRAWS, self.seed, |drawn| {
                    mean(pairs.iter().filter_map(|pair| {
                        Some(cascade.apgr(pair, drawn)? - pair.apgr(&whole, drawn)?)
                    }))
                })
            });
            let lost = Draws::mean(&lost.collect::<Vec<_>>());
            let mut line = |on: &str, rows: &[usize], n, lost: Option<Interval>| {
                let share = |measure: fn(&Cascade<'_>, usize) -> bool| {
                    Draws::new(rows.len(), DRAWS, self.seed, |drawn| {
                        let hits = drawn.iter().filter_map(|at| rows.get(*at));
                        mean(hits.map(|row| f64::from(u8::from(measure(&cascade, *row)))))
                    })
                    .interval()
                };
                let figures = vec![
                    ("decided alone at 0.42", share(|cascade, row| cascade.alone(row, SPLIT))),
                    ("decisions changed", share(|cascade, row| cascade.changes(row, SPLIT))),
                    ("APGR lost", lost),
                ];
                lines.push(Line { on: on.to_owned(), n, score: name, figures });
            };
            let rows: Vec<usize> = sets.iter().flat_map(|(rows, _)| rows.iter().copied()).collect();
            line("data sets", &rows, n, lost.interval());
            if let Some(rows) = groups.get(AUTHORED) {
                line(AUTHORED, rows, rows.len(), None);
            }
        }
        Table {
            title: "The static stage: it decides alone where its score is at least the margin away from the threshold".to_owned(),
            lines,
        }
    }

    fn idle_anchors(&self) -> Vec<String> {
        let matches = |anchor: &str, row: &Row| {
            let (set, category) = anchor.split_once('|').unwrap_or((anchor, &row.category));
            matches!(row.label, Label::Answers(_)) && row.dataset == set && row.category == category
        };
        let idle = |anchor: &&String| !self.data.rows.iter().any(|row| matches(anchor, row));
        let note = |anchor: &String| format!("The anchor for {anchor} matches no row.");
        self.recipe.anchors.keys().filter(idle).map(note).collect()
    }
}

/// Decisions of which the static stage takes those that are clear to it.
struct Cascade<'a> {
    /// Probabilities of all rows by the whole head, and by the static stage.
    whole: &'a [f64],
    staged: &'a [f64],
    margin: f64,
}

impl Cascade<'_> {
    fn alone(&self, row: usize, threshold: f64) -> bool {
        self.staged.get(row).is_some_and(|staged| (staged - threshold).abs() >= self.margin)
    }

    fn is_strong(&self, row: usize, threshold: f64) -> bool {
        let by = if self.alone(row, threshold) { self.staged } else { self.whole };
        by.get(row).is_some_and(|score| *score >= threshold)
    }

    fn changes(&self, row: usize, threshold: f64) -> bool {
        let whole = self.whole.get(row).is_some_and(|score| *score >= threshold);
        self.is_strong(row, threshold) != whole
    }

    /// APGR at the thresholds that the whole head's APGR has.
    fn apgr(&self, pair: &Pair, drawn: &[usize]) -> Option<f64> {
        let rows: Vec<(usize, f64)> = pair.answered(drawn).collect();
        let whole: Vec<f64> =
            rows.iter().filter_map(|(row, _)| self.whole.get(*row).copied()).collect();
        let gains: Vec<f64> = rows.iter().map(|(_, gain)| *gain).collect();
        apgr_of_decisions(&whole, &gains, |at, threshold| {
            rows.get(at).is_some_and(|(row, _)| self.is_strong(*row, threshold))
        })
    }
}

/// How well one score routes on one set of rows.
struct Routing {
    /// APGR, mean over pairs.
    area: Draws,
    /// AUROC of "the strong model is clearly better", mean over pairs.
    roc: Draws,
}

/// The name of each of [`Judge::scores`].
fn names() -> impl Iterator<Item = &'static str> {
    SCORES.into_iter().chain([AGAINST])
}

/// One line a score, in the order of [`names`].
fn lines(on: &str, n: usize, routing: &[Routing]) -> Vec<Line> {
    let of = |name: &str| names().position(|score| score == name).and_then(|at| routing.get(at));
    let line = |(score, routing): (&'static str, &Routing)| {
        let minus = |name: &str| {
            let other = of(name).filter(|_| score != name)?;
            routing.area.minus(&other.area).interval()
        };
        let mut figures = vec![
            ("APGR", routing.area.interval()),
            ("APGR minus words", minus("words")),
            ("AUROC", routing.roc.interval()),
        ];
        if of(AGAINST).is_some() {
            figures.push(("APGR minus against", minus(AGAINST)));
        }
        Line { on: on.to_owned(), n, score, figures }
    };
    names().zip(routing).map(line).collect()
}

/// One pair's gains on one data set.
struct Pair {
    /// Of the data set's rows: where in the data, and the gain where both models answered.
    rows: Vec<(usize, Option<f64>)>,
    /// Above which gain the strong model is clearly better.
    clear: f64,
}

impl Pair {
    /// `(row, gain)` of the drawn rows that both models answered.
    fn answered<'a>(&'a self, drawn: &'a [usize]) -> impl Iterator<Item = (usize, f64)> + 'a {
        let rows = drawn.iter().filter_map(|at| self.rows.get(*at));
        rows.filter_map(|(row, gain)| Some((*row, (*gain)?)))
    }

    /// `(score, gain)` of those rows.
    fn drawn<'a>(
        &'a self,
        scores: &'a [f64],
        drawn: &'a [usize],
    ) -> impl Iterator<Item = (f64, f64)> + 'a {
        self.answered(drawn).filter_map(|(row, gain)| Some((*scores.get(row)?, gain)))
    }

    fn apgr(&self, scores: &[f64], drawn: &[usize]) -> Option<f64> {
        let (scores, gains): (Vec<f64>, Vec<f64>) = self.drawn(scores, drawn).unzip();
        apgr(&scores, &gains)
    }

    fn auroc(&self, scores: &[f64], drawn: &[usize]) -> Option<f64> {
        let rows = self.drawn(scores, drawn).map(|(score, gain)| (score, gain > self.clear));
        let (scores, better): (Vec<f64>, Vec<bool>) = rows.unzip();
        auroc(&scores, &better)
    }
}

/// The values of drawn rows.
fn gather(values: &[f64], rows: &[usize], drawn: &[usize]) -> Vec<f64> {
    let rows = drawn.iter().filter_map(|at| rows.get(*at));
    rows.filter_map(|row| values.get(*row).copied()).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}
