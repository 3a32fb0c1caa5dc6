//! Kernel ridge regression with closed-form leave-one-out: cheap and exact for some thousand rows.
//!
//! ```text
//! α = (K + λI)⁻¹ y        K  [n, n], centred      y  [n], mean 0
//! leave-one-out residual of row i:  λ α_i / (1 − h_i),   h_i = 1 − λ [(K + λI)⁻¹]_ii + 1/n
//! ```
//!
//! The 1/n is the intercept's share of the hat matrix (Allen 1974, PRESS; Cawley and Talbot 2003).

use ndarray::{Array1, Array2, s};

/// Below this size the factorisation is done entry by entry; above it by matrix products.
const DIRECT: usize = 48;

/// A fit at the penalty that leave-one-out chose.
#[derive(Debug, Clone)]
pub struct Dual {
    /// `[n]`: the fit at a row `x` is `Σ_i α_i K(x, x_i)`, plus the target's mean.
    pub alpha: Array1<f64>,
    /// `[n]`: each row's prediction by a fit without it, on the target's scale.
    pub left_out: Array1<f64>,
    /// The chosen λ.
    pub penalty: f64,
}

impl Dual {
    /// Fits at every penalty and keeps the one of least squared leave-one-out residual; of equals
    /// the first. `target` must have mean 0. `None` when `penalties` is empty.
    pub fn fit(kernel: &Array2<f64>, target: &Array1<f64>, penalties: &[f64]) -> Option<Self> {
        let mut best: Option<(f64, Self)> = None;
        for penalty in penalties {
            let fit = Self::at(kernel, target, *penalty);
            let error = (target - &fit.left_out).mapv(|residual| residual * residual).sum();
            if best.as_ref().is_none_or(|(least, _)| error < *least) {
                best = Some((error, fit));
            }
        }
        best.map(|(_, fit)| fit)
    }

    fn at(kernel: &Array2<f64>, target: &Array1<f64>, penalty: f64) -> Self {
        let mut system = kernel.clone();
        system.diag_mut().mapv_inplace(|diagonal| diagonal + penalty);
        let root = inverse_of_cholesky(&system);
        let alpha = root.t().dot(&root.dot(target));
        let n = target.len() as f64;
        let diagonal = (&root * &root).sum_axis(ndarray::Axis(0));
        let left_out = Array1::from_shape_fn(target.len(), |row| {
            // A row that determines its own prediction leaves no residual to divide; the bound
            // keeps such a row from deciding the penalty alone.
            let free = (penalty * diagonal[row] - 1.0 / n).max(1e-3);
            target[row] - penalty * alpha[row] / free
        });
        Self { alpha, left_out, penalty }
    }
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
    fn left_out_predictions_are_those_of_fits_without_the_row() {
        let (n, penalty) = (12, 0.7);
        let x = matrix(n, 3, 2);
        let x = &x - &x.mean_axis(ndarray::Axis(0)).unwrap();
        let y = arr1(&[1.0, 0.0, 0.5, -1.0, 2.0, 0.1, 0.3, -0.7, 1.1, 0.9, -0.2, 0.4]);
        let y = &y - y.mean().unwrap();
        let fit = Dual::fit(&x.dot(&x.t()), &y, &[penalty]).unwrap();
        let blocks = [Block { columns: Columns::Dense(x.view()), penalty }];
        for row in 0..n {
            let mut weights = Array1::ones(n);
            weights[row] = 0.0;
            let limits = Limits { steps: 100, residual: 1e-14 };
            let without = Ridge::fit(&blocks, &y, &weights, limits).predict(&blocks)[row];
            assert!((fit.left_out[row] - without).abs() < 1e-7, "{} {without}", fit.left_out[row]);
        }
    }

    #[test]
    fn noise_chooses_the_strongest_penalty() {
        let x = matrix(40, 60, 3);
        let y = matrix(40, 1, 4).column(0).to_owned();
        let y = &y - y.mean().unwrap();
        let fit = Dual::fit(&x.dot(&x.t()), &y, &[0.01, 1.0, 1e6]).unwrap();
        assert_eq!(fit.penalty, 1e6);
    }
}
