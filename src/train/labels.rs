//! What the head is to learn of each row, and how much each row weighs.
//!
//! From many models: the share of mid-strength models that fail, shifted so that each group's mean
//! meets its anchor; one pair's coin flips teach less (see the model card). From one pair: what
//! the strong model gains over the weak one.

use std::collections::BTreeMap;

use anyhow::bail;
use ndarray::Array1;

use crate::evaluate::rows::{Data, Label, Row};

/// Position of the first mid-strength model among a data set's models by mean score.
const MID_FROM: f64 = 0.4;
/// Position behind the last one.
const MID_TO: f64 = 0.85;

/// The groups that authored rows and data sets form: rows of one group are held out together.
pub const AUTHORED: &str = "authored";

/// The row's group: its data set, or [`AUTHORED`].
pub fn group(row: &Row) -> &str {
    match row.label {
        Label::Answers(_) => &row.dataset,
        Label::Difficulty(_) => AUTHORED,
    }
}

/// Rows of each group, in order.
pub fn groups(data: &Data) -> BTreeMap<&str, Vec<usize>> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, row) in data.rows.iter().enumerate() {
        groups.entry(group(row)).or_default().push(index);
    }
    groups
}

/// The difficulty of every row, `[n]`. An anchor for `dataset|category` wins over one for
/// `dataset`; without any, a group keeps the mean that it has. Not clipped to 0..=1.
pub fn difficulties(data: &Data, anchors: &BTreeMap<String, f64>) -> Array1<f64> {
    let mut difficulty: Array1<f64> = data
        .rows
        .iter()
        .map(|row| if let Label::Difficulty(difficulty) = row.label { difficulty } else { 0.5 })
        .collect();
    let mut anchored: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (name, rows) in groups(data) {
        if name == AUTHORED {
            continue;
        }
        let mid = mid_strength(data, &rows);
        for index in rows {
            let Some(row) = data.rows.get(index) else { continue };
            if let Some(mean) = mean(mid.iter().filter_map(|model| row.score(*model))) {
                difficulty[index] = 1.0 - mean;
            }
            let anchor = anchors
                .get_key_value(&format!("{}|{}", row.dataset, row.category))
                .or_else(|| anchors.get_key_value(&row.dataset));
            if let Some((anchor, _)) = anchor {
                anchored.entry(anchor).or_default().push(index);
            }
        }
    }
    for (anchor, rows) in anchored {
        let level = mean(rows.iter().map(|row| difficulty[*row])).unwrap_or_default();
        let shift = anchors.get(anchor).map_or(0.0, |anchor| anchor - level);
        rows.into_iter().for_each(|row| difficulty[row] += shift);
    }
    difficulty
}

/// The models of these rows in the middle of the order of mean scores.
fn mid_strength(data: &Data, rows: &[usize]) -> Vec<usize> {
    let mut scores: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
    for row in rows.iter().filter_map(|row| data.rows.get(*row)) {
        if let Label::Answers(answers) = &row.label {
            for (model, score) in answers {
                let (sum, count) = scores.entry(*model).or_default();
                *sum += score;
                *count += 1;
            }
        }
    }
    let mut means: Vec<(f64, usize)> =
        scores.into_iter().map(|(model, (sum, count))| (sum / count as f64, model)).collect();
    means.sort_by(|a, b| a.0.total_cmp(&b.0));
    let count = means.len() as f64;
    let (from, to) = ((count * MID_FROM) as usize, (count * MID_TO).ceil() as usize);
    means.get(from..to).unwrap_or_default().iter().map(|(_, model)| *model).collect()
}

/// Weights of rows, `[n]`: a data set of `m` rows weighs `√m` (each row `m^−1/2`), authored rows
/// together the share `authored_share` of everything. Rows that are not `learned` weigh 0.
pub fn row_weights(data: &Data, learned: &[bool], authored_share: f64) -> Array1<f64> {
    let mut weights = Array1::zeros(data.rows.len());
    let (mut measured, mut authored) = (Vec::new(), Vec::new());
    for (name, rows) in groups(data) {
        let rows: Vec<usize> =
            rows.into_iter().filter(|row| learned.get(*row) == Some(&true)).collect();
        let kind = if name == AUTHORED { &mut authored } else { &mut measured };
        let weight = 1.0 / (rows.len() as f64).sqrt();
        kind.extend(rows.into_iter().map(|row| (row, weight)));
    }
    let authored_share = match (measured.is_empty(), authored.is_empty()) {
        (true, _) => 1.0,
        (_, true) => 0.0,
        _ => authored_share,
    };
    for (rows, share) in [(measured, 1.0 - authored_share), (authored, authored_share)] {
        let total: f64 = rows.iter().map(|(_, weight)| weight).sum();
        rows.into_iter().for_each(|(row, weight)| weights[row] = weight / total * share);
    }
    weights
}

/// One pair's labels, for the rows that both models answered.
#[derive(Debug, Clone)]
pub struct PairLabels {
    /// Indices into the data's rows.
    pub rows: Vec<usize>,
    /// Strong minus weak.
    pub gain: Vec<f64>,
    /// 1 − weak.
    pub weak_fails: Vec<f64>,
    /// 1 where the weak model's answer is worse, else 0: the event that the score estimates.
    pub weak_is_worse: Vec<f64>,
    /// As the rows give it; empty where they give none.
    pub categories: Vec<String>,
}

/// Fewest rows that a head can be fitted to and held out from in folds.
pub const LEAST_ROWS: usize = 20;

impl PairLabels {
    /// The chosen rows.
    pub fn select(&self, rows: &[usize]) -> Self {
        let pick = |of: &[f64]| rows.iter().filter_map(|row| of.get(*row).copied()).collect();
        Self {
            rows: rows.iter().filter_map(|row| self.rows.get(*row).copied()).collect(),
            gain: pick(&self.gain),
            weak_fails: pick(&self.weak_fails),
            weak_is_worse: pick(&self.weak_is_worse),
            categories: rows.iter().filter_map(|row| self.categories.get(*row).cloned()).collect(),
        }
    }

    /// Takes the rows with both answers; says in one sentence why they cannot be learned from.
    pub fn of(data: &Data, strong: &str, weak: &str) -> anyhow::Result<Self> {
        if strong == weak {
            bail!("--strong and --weak name the same model, `{strong}`");
        }
        let (strong_model, weak_model) = (data.model(strong)?, data.model(weak)?);
        let mut labels = Self {
            rows: vec![],
            gain: vec![],
            weak_fails: vec![],
            weak_is_worse: vec![],
            categories: vec![],
        };
        let mut strong_sum = 0.0;
        for (index, row) in data.rows.iter().enumerate() {
            if let (Some(s), Some(w)) = (row.score(strong_model), row.score(weak_model)) {
                labels.rows.push(index);
                labels.gain.push(s - w);
                labels.categories.push(row.category.clone());
                labels.weak_fails.push(1.0 - w);
                labels.weak_is_worse.push(f64::from(u8::from(s > w)));
                strong_sum += s;
            }
        }
        let n = labels.rows.len();
        if n < LEAST_ROWS {
            bail!(
                "{n} rows have results of both `{strong}` and `{weak}`; at least {LEAST_ROWS} are needed"
            );
        }
        let worse = labels.weak_is_worse.iter().sum::<f64>() as usize;
        if worse == 0 || worse == n {
            let how = if worse == 0 { "never" } else { "always" };
            bail!(
                "there is one class only: on these {n} rows `{strong}` is {how} better than `{weak}`, so there is nothing to learn"
            );
        }
        let gained: f64 = labels.gain.iter().sum();
        if gained <= 0.0 {
            let (s, w) = (strong_sum / n as f64, (strong_sum - gained) / n as f64);
            bail!(
                "`{strong}` scores {s:.3} and `{weak}` {w:.3} on average over {n} rows, so nothing is gained by calling the strong one; are they swapped?"
            );
        }
        Ok(labels)
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(dataset: &str, category: &str, label: Label) -> Row {
        Row {
            id: String::new(),
            dataset: dataset.to_owned(),
            category: category.to_owned(),
            text: String::new(),
            label,
        }
    }

    /// Three models, `a` < `b` < `c` by mean score; positions 1..3 of three are mid-strength.
    fn data() -> Data {
        let answers = |a: f64, b: f64, c: f64| Label::Answers(vec![(0, a), (1, b), (2, c)]);
        Data {
            sources: vec![],
            models: ["a", "b", "c"].map(str::to_owned).to_vec(),
            rows: vec![
                row("d", "x", answers(0.0, 0.0, 1.0)),
                row("d", "x", answers(0.0, 1.0, 1.0)),
                row("d", "y", answers(0.0, 0.0, 0.0)),
                row("d", "y", Label::Answers(vec![(0, 1.0)])),
                row("own", "chat", Label::Difficulty(0.1)),
            ],
        }
    }

    #[test]
    fn difficulty_is_the_share_of_failing_mid_strength_models() {
        // Mean scores: a 1/4, b 1/3, c 2/3: `b` and `c` count. The fourth row has neither.
        let found = difficulties(&data(), &BTreeMap::new());
        assert_eq!(found.to_vec(), [0.5, 0.0, 1.0, 0.5, 0.1]);
    }

    #[test]
    fn anchors_move_the_mean_of_their_group_and_leave_its_order() {
        let anchors = BTreeMap::from([("d".to_owned(), 0.5), ("d|x".to_owned(), 0.75)]);
        let found = difficulties(&data(), &anchors);
        // d|x: 0.5 and 0.0 move to mean 0.75; the rest of d: 1.0 and 0.5 to mean 0.5.
        assert_eq!(found.to_vec(), [1.0, 0.5, 0.75, 0.25, 0.1]);
    }

    #[test]
    fn a_data_set_weighs_its_root_and_authored_rows_their_share() {
        let mut data = data();
        data.rows.push(row("e", "", Label::Answers(vec![(0, 1.0)])));
        let weights = row_weights(&data, &[true; 6], 0.25);
        assert!((weights.sum() - 1.0).abs() < 1e-12);
        assert!((weights[4] - 0.25).abs() < 1e-12);
        // √4 : √1
        assert!((weights.slice(ndarray::s![..4]).sum() / weights[5] - 2.0).abs() < 1e-12);
        let without = row_weights(&data, &[true, true, true, true, false, false], 0.25);
        assert_eq!((without[4], without[5]), (0.0, 0.0));
        assert!((without.sum() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_pair_that_cannot_be_learned_from_is_refused_in_a_sentence() {
        let rows = |score: fn(usize) -> (f64, f64), n: usize| Data {
            sources: vec![],
            models: vec!["big".to_owned(), "small".to_owned()],
            rows: (0..n)
                .map(|at| row("d", "", Label::Answers(vec![(0, score(at).0), (1, score(at).1)])))
                .collect(),
        };
        let refusal = |data: &Data, strong: &str| {
            PairLabels::of(data, strong, "small").unwrap_err().to_string()
        };
        let mixed = |at: usize| (1.0, (at % 2) as f64);
        assert!(refusal(&rows(mixed, 19), "big").contains("19 rows have results of both"));
        assert!(refusal(&rows(mixed, 30), "huge").contains("the data knows: big, small"));
        assert!(refusal(&rows(mixed, 30), "small").contains("the same model"));
        assert!(refusal(&rows(|_| (1.0, 1.0), 30), "big").contains("`big` is never better"));
        assert!(refusal(&rows(|_| (1.0, 0.0), 30), "big").contains("`big` is always better"));
        let swapped = |at: usize| if at == 0 { (1.0, 0.0) } else { (0.0, 1.0) };
        assert!(refusal(&rows(swapped, 30), "big").contains("are they swapped?"));
        assert_eq!(PairLabels::of(&rows(mixed, 30), "big", "small").unwrap().gain[..2], [1.0, 0.0]);
    }
}
