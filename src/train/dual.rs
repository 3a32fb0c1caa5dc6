//! Kernel ridge regression for some thousand rows, the penalty chosen by evidence.
//!
//! ```text
//! α = (K + λI)⁻¹ y        K  [n, n], centred      y  [n], mean 0
//! ln p(y | λ) = −n/2 ln yᵀ(K + λI)⁻¹y − ½ ln |K + λI| + constant
//! ```
//!
//! The evidence is that of a Gaussian process whose scale is fitted (Rasmussen and Williams 2006,
//! §5.4.1). Of few labels it chooses as well as leave-one-out or better (measured: see the model
//! card), and it does not need held-out rows, which are left to judge.

use ndarray::{Array1, Array2, ArrayView1, s};

/// Below this size the factorisation is done entry by entry; above it by matrix products.
const DIRECT: usize = 48;

/// A fit at the penalty of most evidence.
#[derive(Debug, Clone)]
pub struct Dual {
    /// `[n]`: the fit at a row `x` is `Σ_i α_i K(x, x_i)`, plus the target's mean.
    pub alpha: Array1<f64>,
    /// The chosen λ.
    pub penalty: f64,
    /// `[n, n]`: `(K + λI)⁻¹` with a free intercept, `A⁻¹ − A⁻¹1 1ᵀA⁻¹ / 1ᵀA⁻¹1`.
    precision: Array2<f64>,
    /// `[n]`
    target: Array1<f64>,
}

impl Dual {
    /// Fits each target at every penalty and keeps what the evidence likes best, of equals the
    /// first. Targets must have mean 0. Empty when `penalties` is empty.
    pub fn fit(kernel: &Array2<f64>, targets: &[Array1<f64>], penalties: &[f64]) -> Vec<Self> {
        let mut best: Vec<Option<(f64, f64, Array1<f64>)>> = vec![None; targets.len()];
        for &penalty in penalties {
            let root = root(kernel, penalty);
            let half_log_determinant = -root.diag().mapv(f64::ln).sum();
            for (best, target) in best.iter_mut().zip(targets) {
                let whitened = root.dot(target);
                let evidence = -0.5 * target.len() as f64 * whitened.dot(&whitened).ln()
                    - half_log_determinant;
                if best.as_ref().is_none_or(|(most, ..)| evidence > *most) {
                    *best = Some((evidence, penalty, root.t().dot(&whitened)));
                }
            }
        }
        let fits = best.into_iter().flatten().zip(targets);
        fits.map(|((_, penalty, alpha), target)| Self {
            alpha,
            penalty,
            precision: with_free_intercept(&root(kernel, penalty)),
            target: target.clone(),
        })
        .collect()
    }

    /// Each row's prediction by a fit without the rows of its fold, `[n]`; `fold_of` says which of
    /// `0..folds` a row is in. The residuals of a fold `B` are `(P_BB)⁻¹ (P y)_B` with the
    /// precision `P`, so nothing is fitted again.
    pub fn left_out(&self, fold_of: &[usize], folds: usize) -> Array1<f64> {
        let mut left_out = self.target.clone();
        let explained = self.precision.dot(&self.target);
        for fold in 0..folds {
            let rows: Vec<usize> =
                fold_of.iter().enumerate().filter(|(_, of)| **of == fold).map(|(r, _)| r).collect();
            let within = Array2::from_shape_fn((rows.len(), rows.len()), |(a, b)| {
                self.precision[[rows[a], rows[b]]]
            });
            let inside: Array1<f64> = rows.iter().map(|row| explained[*row]).collect();
            for (row, residual) in rows.iter().zip(solve(&within, inside.view())) {
                left_out[*row] -= residual;
            }
        }
        left_out
    }
}

/// `L⁻¹` of `K + λI`, `[n, n]`.
pub fn root(kernel: &Array2<f64>, penalty: f64) -> Array2<f64> {
    let mut system = kernel.clone();
    system.diag_mut().mapv_inplace(|diagonal| diagonal + penalty);
    inverse_of_cholesky(&system)
}

fn with_free_intercept(root: &Array2<f64>) -> Array2<f64> {
    let inverse = root.t().dot(root);
    let row_sums = inverse.sum_axis(ndarray::Axis(1));
    let outer = row_sums.view().insert_axis(ndarray::Axis(1));
    &inverse - &(&outer.dot(&outer.t()) / row_sums.sum())
}

/// `A⁻¹ b` of a symmetric positive definite `A`.
fn solve(a: &Array2<f64>, b: ArrayView1<'_, f64>) -> Array1<f64> {
    let root = inverse_of_cholesky(a);
    root.t().dot(&root.dot(&b))
}

/// `L⁻¹` of a symmetric positive definite matrix `A = L Lᵀ`, so that `A⁻¹ = L⁻ᵀ L⁻¹`.
///
/// By halves, which makes nearly all of the work matrix products:
/// with `A = [[P, Qᵀ], [Q, R]]`, `L⁻¹ = [[I₁, 0], [−I₂ M I₁, I₂]]` where `I₁` belongs to `P`,
/// `M = Q I₁ᵀ`, and `I₂` belongs to `R − M Mᵀ`.
pub fn inverse_of_cholesky(a: &Array2<f64>) -> Array2<f64> {
    let n = a.nrows();
    if n <= DIRECT {
        return direct(a);
    }
    let half = n / 2;
    let first = inverse_of_cholesky(&a.slice(s![..half, ..half]).to_owned());
    let middle = a.slice(s![half.., ..half]).dot(&first.t());
    let rest = &a.slice(s![half.., half..]) - &middle.dot(&middle.t());
    let second = inverse_of_cholesky(&rest);
    let mut inverse = Array2::zeros((n, n));
    inverse.slice_mut(s![half.., ..half]).assign(&(-second.dot(&middle.dot(&first))));
    inverse.slice_mut(s![..half, ..half]).assign(&first);
    inverse.slice_mut(s![half.., half..]).assign(&second);
    inverse
}

fn direct(a: &Array2<f64>) -> Array2<f64> {
    let n = a.nrows();
    let mut lower = Array2::<f64>::zeros((n, n));
    for column in 0..n {
        for row in column..n {
            let known: f64 = (0..column).map(|k| lower[[row, k]] * lower[[column, k]]).sum();
            let rest = a[[row, column]] - known;
            lower[[row, column]] = if row == column {
                // Rounding may push the pivot of a nearly singular matrix below zero.
                rest.max(1e-12).sqrt()
            } else {
                rest / lower[[column, column]]
            };
        }
    }
    let mut inverse = Array2::<f64>::zeros((n, n));
    for column in 0..n {
        for row in column..n {
            let unit = f64::from(u8::from(row == column));
            let known: f64 = (column..row).map(|k| lower[[row, k]] * inverse[[k, column]]).sum();
            inverse[[row, column]] = (unit - known) / lower[[row, row]];
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use ndarray::arr1;

    use super::*;
    use crate::{
        evaluate::random::Random,
        train::ridge::{Block, Columns, Limits, Ridge},
    };

    fn matrix(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
        let mut random = Random::new(seed);
        Array2::from_shape_fn((rows, columns), |_| random.uniform() - 0.5)
    }

    #[test]
    fn a_factorisation_worked_by_hand() {
        // [[4, 2], [2, 5]] = L Lᵀ with L = [[2, 0], [1, 2]]; L⁻¹ = [[1/2, 0], [−1/4, 1/2]].
        let inverse = inverse_of_cholesky(&ndarray::arr2(&[[4.0, 2.0], [2.0, 5.0]]));
        assert_eq!(inverse, ndarray::arr2(&[[0.5, 0.0], [-0.25, 0.5]]));
    }

    #[test]
    fn the_inverse_by_halves_is_an_inverse() {
        let n = 2 * DIRECT + 37;
        let x = matrix(n, n + 5, 1);
        let a = x.dot(&x.t()) + Array2::<f64>::eye(n);
        let root = inverse_of_cholesky(&a);
        let identity = root.t().dot(&root).dot(&a);
        let off =
            (identity - Array2::<f64>::eye(n)).mapv(f64::abs).fold(0.0, |a: f64, b| a.max(*b));
        assert!(off < 1e-9, "{off}");
    }

    #[test]
    fn left_out_predictions_are_those_of_fits_without_the_fold() {
        let (n, penalty) = (12, 0.7);
        let x = matrix(n, 3, 2);
        let x = &x - &x.mean_axis(ndarray::Axis(0)).unwrap();
        let y = arr1(&[1.0, 0.0, 0.5, -1.0, 2.0, 0.1, 0.3, -0.7, 1.1, 0.9, -0.2, 0.4]);
        let y = &y - y.mean().unwrap();
        let fit = Dual::fit(&x.dot(&x.t()), std::slice::from_ref(&y), &[penalty]).remove(0);
        let blocks = [Block { columns: Columns::Dense(x.view()), penalty }];
        for folds in [4, n] {
            let fold_of: Vec<usize> = (0..n).map(|row| row % folds).collect();
            let left_out = fit.left_out(&fold_of, folds);
            for fold in 0..folds {
                let learned = |row: usize| f64::from(u8::from(fold_of[row] != fold));
                let weights = Array1::from_shape_fn(n, learned);
                let limits = Limits { steps: 100, residual: 1e-14 };
                let without = Ridge::fit(&blocks, &y, &weights, limits).predict(&blocks);
                for row in (0..n).filter(|row| fold_of[*row] == fold) {
                    assert!((left_out[row] - without[row]).abs() < 1e-7, "{folds} {row}");
                }
            }
        }
    }

    #[test]
    fn the_evidence_of_two_rows_worked_by_hand() {
        // K = [[1, −1], [−1, 1]] has eigenvalue 2 along y = (1, −1) and 0 across. With n = 2:
        // evidence = −ln(2 / (2 + λ)) − ½ ln((2 + λ) λ) = ½ ln((2 + λ) / λ) − ln 2, falling in λ.
        let kernel = ndarray::arr2(&[[1.0, -1.0], [-1.0, 1.0]]);
        let fits = Dual::fit(&kernel, &[arr1(&[1.0, -1.0])], &[4.0, 2.0, 8.0]);
        assert_eq!(fits[0].penalty, 2.0);
        // α = y / (2 + λ)
        assert!((&fits[0].alpha - &arr1(&[0.25, -0.25])).mapv(f64::abs).sum() < 1e-12);
    }

    #[test]
    fn noise_chooses_the_strongest_penalty() {
        let x = matrix(40, 60, 3);
        let y = matrix(40, 1, 4).column(0).to_owned();
        let y = &y - y.mean().unwrap();
        let fits = Dual::fit(&x.dot(&x.t()), &[y], &[0.01, 1.0, 1e6]);
        assert_eq!(fits[0].penalty, 1e6);
    }
}
