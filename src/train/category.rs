//! Categories of labelled rows as a second thing to learn: they hold no coin flip, so few rows
//! teach which directions of the features tell kinds of prompts apart, and kinds differ in gain.
//!
//! ```text
//! Y  [n, c]         one column a category, centred
//! B = P Y           P = (K + λI)⁻¹ with a free intercept, λ by leave-one-out
//! C = K B           each row's scores as each category
//! K' = K + w C Cᵀ   w = 4 r² n / |C|²,  r² = 1 − leave-one-out error / mean square of Y
//! ```
//!
//! The head stays linear: a dual vector of `K'` is one of `K`. Rows that are scored later need no
//! category.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, Axis};

use super::dual::root;

/// λ, for kernels of mean diagonal about 1 (chosen as the fit's own).
const PENALTIES: [f64; 6] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0];
/// Mean diagonal of what is added where categories are told perfectly (measured: 2, 4 and 8 are
/// alike; see the model card).
const STRENGTH: f64 = 4.0;
/// A category of fewer rows teaches nothing of itself.
const LEAST_ROWS: usize = 2;

/// What the features say of the categories.
#[derive(Debug, Clone)]
pub struct Kinds {
    /// B, `[n, c]`
    pub dual: Array2<f64>,
    /// C, `[n, c]`, centred.
    scores: Array2<f64>,
    /// w, above 0.
    pub weight: f64,
    /// r², in 0..1.
    pub explained: f64,
}

impl Kinds {
    /// Learns the categories of the kernel's rows. `None` where there is one category only, or
    /// where the features do not tell them apart: then there is nothing to add.
    pub fn learn(kernel: &Array2<f64>, categories: &[&str]) -> Option<Self> {
        let targets = targets(categories)?;
        let mut best: Option<(f64, Array2<f64>)> = None;
        for penalty in PENALTIES {
            let (error, dual) = left_out_error(kernel, &targets, penalty);
            if best.as_ref().is_none_or(|(least, _)| error < *least) {
                best = Some((error, dual));
            }
        }
        let (error, dual) = best?;
        let explained = 1.0 - error / targets.mapv(|value| value * value).mean()?;
        let scores = kernel.dot(&dual);
        let scores = &scores - &scores.mean_axis(Axis(0))?;
        let mean_square = scores.mapv(|score| score * score).sum() / scores.nrows() as f64;
        if !(explained > 0.0 && mean_square > 0.0) {
            return None;
        }
        Some(Self { dual, scores, weight: STRENGTH * explained / mean_square, explained })
    }

    /// `K'`
    pub fn added_to(&self, kernel: Array2<f64>) -> Array2<f64> {
        kernel + &(self.scores.dot(&self.scores.t()) * self.weight)
    }

    /// The dual vector of `K` that predicts what `alpha` does of `K'`: `α + w B Cᵀ α`.
    pub fn folded(&self, alpha: &Array1<f64>) -> Array1<f64> {
        alpha + &(self.dual.dot(&self.scores.t().dot(alpha)) * self.weight)
    }
}

/// One centred column a category that enough rows have, `[n, c]`.
fn targets(categories: &[&str]) -> Option<Array2<f64>> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for category in categories {
        *counts.entry(category).or_default() += 1;
    }
    let kept: Vec<&str> = counts
        .iter()
        .filter(|(_, count)| **count >= LEAST_ROWS)
        .map(|(category, _)| *category)
        .collect();
    if counts.len() < 2 || kept.is_empty() {
        return None;
    }
    let is_of =
        |(row, column): (usize, usize)| f64::from(u8::from(categories[row] == kept[column]));
    let targets = Array2::from_shape_fn((categories.len(), kept.len()), is_of);
    let means = targets.mean_axis(Axis(0))?;
    Some(targets - means)
}

/// The mean square of leave-one-out residuals `B_ij / P_ii`, and `B`.
fn left_out_error(kernel: &Array2<f64>, targets: &Array2<f64>, penalty: f64) -> (f64, Array2<f64>) {
    // With R = L⁻¹ and a = Rᵀ R 1: P = Rᵀ R − a aᵀ / Σ a.
    let root = root(kernel, penalty);
    let sums = root.t().dot(&root.sum_axis(Axis(1)));
    let total = sums.sum();
    let column = sums.view().insert_axis(Axis(1));
    let free = sums.dot(targets).insert_axis(Axis(0)) / total;
    let dual = root.t().dot(&root.dot(targets)) - column.dot(&free);
    let diagonal = root.mapv(|value| value * value).sum_axis(Axis(0)) - &(&sums * &sums / total);
    let residuals = &dual / &diagonal.insert_axis(Axis(1));
    let count = residuals.len() as f64;
    (residuals.mapv(|residual| residual * residual).sum() / count, dual)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evaluate::random::Random,
        train::ridge::{Block, Columns, Limits, Ridge},
    };

    /// Two kinds of rows, told by the first of six numbers; centred.
    fn rows(n: usize, told: f64) -> (Array2<f64>, Vec<&'static str>) {
        let mut random = Random::new(7);
        let mut x = Array2::from_shape_fn((n, 6), |_| random.uniform() - 0.5);
        let mut categories = Vec::new();
        for row in 0..n {
            let is_first = random.uniform() < 0.5;
            x[[row, 0]] += if is_first { told } else { -told };
            categories.push(if is_first { "proofs" } else { "poems" });
        }
        let means = x.mean_axis(Axis(0)).unwrap();
        (x - means, categories)
    }

    #[test]
    fn what_tells_kinds_apart_counts_for_more_in_the_kernel() {
        let (x, categories) = rows(60, 0.6);
        let kernel = x.dot(&x.t());
        let kinds = Kinds::learn(&kernel, &categories).unwrap();
        assert!(kinds.explained > 0.5 && kinds.explained < 1.0, "{}", kinds.explained);
        let added = kinds.added_to(kernel.clone()) - &kernel;
        assert!((added.diag().sum() / 60.0 - STRENGTH * kinds.explained).abs() < 1e-9);
        let (mut same, mut other) = (0.0, 0.0);
        for ((a, b), value) in added.indexed_iter() {
            *(if categories[a] == categories[b] { &mut same } else { &mut other }) += value;
        }
        assert!(same > 0.0 && other < 0.0, "{same} {other}");
    }

    #[test]
    fn a_dual_vector_of_the_new_kernel_is_one_of_the_old() {
        let (x, categories) = rows(30, 0.6);
        let kernel = x.dot(&x.t());
        let kinds = Kinds::learn(&kernel, &categories).unwrap();
        let alpha = Array1::from_shape_fn(30, |row| (row % 7) as f64 - 3.0);
        let new = kinds.added_to(kernel.clone()).dot(&alpha);
        let old = kernel.dot(&kinds.folded(&alpha));
        for (new, old) in new.iter().zip(&old) {
            assert!((new - old).abs() < 1e-9, "{new} {old}");
        }
    }

    #[test]
    fn left_out_residuals_are_those_of_fits_without_the_row() {
        let (x, categories) = rows(12, 0.3);
        let targets = targets(&categories).unwrap();
        let (error, _) = left_out_error(&x.dot(&x.t()), &targets, 3.0);
        let mut squares = 0.0;
        for row in 0..12 {
            for column in targets.columns() {
                let block = [Block { columns: Columns::Dense(x.view()), penalty: 3.0 }];
                let weights = Array1::from_shape_fn(12, |at| f64::from(u8::from(at != row)));
                let limits = Limits { steps: 100, residual: 1e-14 };
                let fit = Ridge::fit(&block, &column.to_owned(), &weights, limits);
                squares += (column[row] - fit.predict(&block)[row]).powi(2);
            }
        }
        assert!((error - squares / 24.0).abs() < 1e-8, "{error} {}", squares / 24.0);
    }

    #[test]
    fn one_category_or_categories_of_chance_add_nothing() {
        let (x, categories) = rows(60, 0.0);
        let kernel = x.dot(&x.t());
        assert!(Kinds::learn(&kernel, &["one"; 60]).is_none());
        let singles: Vec<String> = (0..60).map(|row| row.to_string()).collect();
        let singles: Vec<&str> = singles.iter().map(String::as_str).collect();
        assert!(Kinds::learn(&kernel, &singles).is_none());
        let of_chance = Kinds::learn(&kernel, &categories).map_or(0.0, |kinds| kinds.explained);
        assert!(of_chance < 0.05, "{of_chance}");
    }
}
