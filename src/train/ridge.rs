//! Weighted ridge regression over blocks of columns, by preconditioned conjugate gradients.
//!
//! ```text
//! minimise  Σ_i w_i (y_i − b − Σ_k X_k[i] · β_k)²  +  Σ_k λ_k |β_k|²
//! ```
//!
//! and, where there are pairs of texts that should get one score, `+ Σ_j v_j (Σ_k D_k[j] · β_k)²`
//! over the differences `D` of their columns, which are not centred: the intercept cancels.
//!
//! The intercept `b` is not penalised: columns and target are centred by their weighted means.
//! Dense blocks are preconditioned by the inverse of their own system (block Jacobi), sparse
//! blocks not at all (Hestenes and Stiefel 1952; Saad, Iterative Methods, §9.2 and §10.2).
//! Rows of weight zero are predicted but not learned from, so a fold needs no copy.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use super::{dual::inverse_of_cholesky, features::Sparse};

/// Columns with one penalty.
pub struct Block<'a> {
    /// `[n, columns]`
    pub columns: Columns<'a>,
    /// λ, above 0.
    pub penalty: f64,
}

/// A matrix of `n` rows.
pub enum Columns<'a> {
    /// `[n, columns]`
    Dense(ArrayView2<'a, f64>),
    /// By rows.
    Sparse(&'a Sparse),
}

impl Columns<'_> {
    fn dot(&self, vector: ArrayView1<'_, f64>) -> Array1<f64> {
        match self {
            Self::Dense(matrix) => matrix.dot(&vector),
            Self::Sparse(matrix) => matrix.dot(vector),
        }
    }

    fn transposed_dot(&self, vector: ArrayView1<'_, f64>) -> Array1<f64> {
        match self {
            Self::Dense(matrix) => matrix.t().dot(&vector),
            Self::Sparse(matrix) => matrix.transposed_dot(vector),
        }
    }
}

/// Columns of one text minus those of another that should get the same score, `m` pairs of them.
pub struct Differences<'a> {
    /// `[m, columns]` of each block, in the order of the blocks.
    pub columns: Vec<Columns<'a>>,
    /// v, `[m]`, in the unit of the row weights.
    pub weights: Array1<f64>,
}

/// The solution.
#[derive(Debug, Clone)]
pub struct Ridge {
    /// β of each block, `[columns]`.
    pub weights: Vec<Array1<f64>>,
    /// b
    pub intercept: f64,
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Steps at most.
    pub steps: usize,
    /// Norm of the residual of the normal equations, relative to the start.
    pub residual: f64,
}

impl Ridge {
    /// Fits. Row weights are scaled so that the mean over rows of positive weight is 1.
    pub fn fit(
        blocks: &[Block<'_>],
        target: &Array1<f64>,
        row_weights: &Array1<f64>,
        limits: Limits,
    ) -> Self {
        Self::fit_with_differences(blocks, None, target, row_weights, limits)
    }

    /// Fits to rows, and to differences that should score zero.
    pub fn fit_with_differences<'a>(
        blocks: &[Block<'a>],
        differences: Option<&Differences<'a>>,
        target: &Array1<f64>,
        row_weights: &Array1<f64>,
        limits: Limits,
    ) -> Self {
        let learned = row_weights.iter().filter(|weight| **weight > 0.0).count() as f64;
        let unit = learned / row_weights.sum();
        let weights = row_weights * unit;
        let target_mean = weights.dot(target) / learned;
        let differences = differences.map(|of| (of.columns.as_slice(), &of.weights * unit));
        let system = System::new(blocks, differences, weights, learned);

        // Unknowns are β_k √λ_k, so that the penalty is the identity.
        let mut solution: Vec<Array1<f64>> = system.zeros();
        let mut residual = system.adjoint(&(target - target_mean));
        let start = dot(&residual, &residual).sqrt() + f64::MIN_POSITIVE;
        let mut preconditioned = system.precondition(&residual);
        let mut direction = preconditioned.clone();
        let mut product = dot(&residual, &preconditioned);
        for _ in 0..limits.steps {
            let image = system.image(&direction);
            let step = product / (dot(&direction, &image) + f64::MIN_POSITIVE);
            add(&mut solution, step, &direction);
            add(&mut residual, -step, &image);
            if dot(&residual, &residual).sqrt() / start < limits.residual {
                break;
            }
            preconditioned = system.precondition(&residual);
            let next = dot(&residual, &preconditioned);
            let carried = next / (product + f64::MIN_POSITIVE);
            direction.iter_mut().zip(&preconditioned).for_each(|(direction, preconditioned)| {
                *direction *= carried;
                *direction += preconditioned;
            });
            product = next;
        }

        let weights: Vec<Array1<f64>> =
            solution.into_iter().zip(&system.scales).map(|(x, scale)| x * *scale).collect();
        let at_mean: f64 = weights.iter().zip(&system.means).map(|(w, mean)| w.dot(mean)).sum();
        Self { weights, intercept: target_mean - at_mean }
    }

    /// `b + Σ_k X_k β_k`, `[n]`.
    pub fn predict(&self, blocks: &[Block<'_>]) -> Array1<f64> {
        let mut sum: Option<Array1<f64>> = None;
        for (block, weights) in blocks.iter().zip(&self.weights) {
            let part = block.columns.dot(weights.view());
            sum = Some(sum.map_or_else(|| part.clone(), |sum| sum + &part));
        }
        sum.unwrap_or_default() + self.intercept
    }
}

/// The centred, scaled, weighted columns: what one step multiplies with.
struct System<'a, 'b> {
    blocks: &'a [Block<'b>],
    /// `[n]`
    weights: Array1<f64>,
    /// D of each block and v, `[m]`.
    differences: Option<(&'a [Columns<'b>], Array1<f64>)>,
    /// Weighted mean of each column.
    means: Vec<Array1<f64>>,
    /// 1 / √λ
    scales: Vec<f64>,
    /// Inverse of (scaled Gram matrix + 1), of dense blocks.
    inverses: Vec<Option<Array2<f64>>>,
}

impl<'a, 'b> System<'a, 'b> {
    fn new(
        blocks: &'a [Block<'b>],
        differences: Option<(&'a [Columns<'b>], Array1<f64>)>,
        weights: Array1<f64>,
        total: f64,
    ) -> Self {
        let scales: Vec<f64> = blocks.iter().map(|block| 1.0 / block.penalty.sqrt()).collect();
        let mean = |block: &Block<'_>| block.columns.transposed_dot(weights.view()) / total;
        let means: Vec<Array1<f64>> = blocks.iter().map(mean).collect();
        let inverses = blocks
            .iter()
            .zip(&means)
            .enumerate()
            .map(|(at, (block, mean))| match block.columns {
                Columns::Sparse(_) => None,
                Columns::Dense(matrix) => {
                    let weighed = &matrix * &weights.view().insert_axis(Axis(1));
                    let mean = mean.view().insert_axis(Axis(1));
                    let mut gram = weighed.t().dot(&matrix) - &(mean.dot(&mean.t()) * total);
                    if let Some((columns, weights)) = &differences
                        && let Some(Columns::Dense(matrix)) = columns.get(at)
                    {
                        let weighed = matrix * &weights.view().insert_axis(Axis(1));
                        gram += &weighed.t().dot(matrix);
                    }
                    gram /= block.penalty;
                    gram.diag_mut().mapv_inplace(|diagonal| diagonal + 1.0);
                    let inverse = inverse_of_cholesky(&gram);
                    Some(inverse.t().dot(&inverse))
                }
            })
            .collect();
        Self { blocks, weights, differences, means, scales, inverses }
    }

    fn zeros(&self) -> Vec<Array1<f64>> {
        self.means.iter().map(|mean| Array1::zeros(mean.len())).collect()
    }

    /// The matrix of the normal equations times the unknowns.
    fn image(&self, unknowns: &[Array1<f64>]) -> Vec<Array1<f64>> {
        let mut image = self.adjoint(&self.forward(unknowns));
        add(&mut image, 1.0, unknowns);
        let Some((columns, weights)) = &self.differences else { return image };
        let mut shift = Array1::zeros(weights.len());
        for ((columns, x), scale) in columns.iter().zip(unknowns).zip(&self.scales) {
            shift.scaled_add(*scale, &columns.dot(x.view()));
        }
        let weighed = shift * weights;
        for ((image, columns), scale) in image.iter_mut().zip(*columns).zip(&self.scales) {
            image.scaled_add(*scale, &columns.transposed_dot(weighed.view()));
        }
        image
    }

    /// `[columns]` of each block → `[n]`
    fn forward(&self, unknowns: &[Array1<f64>]) -> Array1<f64> {
        let mut sum = Array1::zeros(self.weights.len());
        let parts = self.blocks.iter().zip(unknowns).zip(&self.means).zip(&self.scales);
        for (((block, x), mean), scale) in parts {
            sum += &((block.columns.dot(x.view()) - mean.dot(x)) * *scale);
        }
        sum
    }

    /// `[n]` → `[columns]` of each block
    fn adjoint(&self, rows: &Array1<f64>) -> Vec<Array1<f64>> {
        let weighed = rows * &self.weights;
        let sum = weighed.sum();
        let parts = self.blocks.iter().zip(&self.means).zip(&self.scales);
        parts
            .map(|((block, mean), scale)| {
                (block.columns.transposed_dot(weighed.view()) - mean * sum) * *scale
            })
            .collect()
    }

    fn precondition(&self, residual: &[Array1<f64>]) -> Vec<Array1<f64>> {
        let parts = residual.iter().zip(&self.inverses);
        parts
            .map(|(residual, inverse)| match inverse {
                Some(inverse) => inverse.dot(residual),
                None => residual.clone(),
            })
            .collect()
    }
}

fn dot(a: &[Array1<f64>], b: &[Array1<f64>]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.dot(b)).sum()
}

/// `to += factor · from`
fn add(to: &mut [Array1<f64>], factor: f64, from: &[Array1<f64>]) {
    to.iter_mut().zip(from).for_each(|(to, from)| to.scaled_add(factor, from));
}

#[cfg(test)]
mod tests {
    use ndarray::{arr1, arr2};

    use super::*;

    const EXACT: Limits = Limits { steps: 200, residual: 1e-13 };

    #[test]
    fn one_column_worked_by_hand() {
        // x = 0, 1, 2; y = 1, 2, 6; weights 1, 1, 1: centred x = −1, 0, 1, mean y = 3.
        // β = Σ x y / (Σ x² + λ) = 5 / (2 + 3) = 1; b = 3 − 1 = 2.
        let x = arr2(&[[0.0], [1.0], [2.0], [9.0]]);
        let blocks = [Block { columns: Columns::Dense(x.view()), penalty: 3.0 }];
        let y = arr1(&[1.0, 2.0, 6.0, -50.0]);
        let fit = Ridge::fit(&blocks, &y, &arr1(&[2.0, 2.0, 2.0, 0.0]), EXACT);
        assert!((fit.weights[0][0] - 1.0).abs() < 1e-9 && (fit.intercept - 2.0).abs() < 1e-9);
        let predicted = fit.predict(&blocks);
        assert!((predicted[3] - 11.0).abs() < 1e-9, "a row of weight zero is only predicted");
    }

    #[test]
    fn a_difference_worked_by_hand() {
        // As above, with one difference 2 of weight 1 in the unit of the rows' weights, which are
        // doubled: β = Σ x y / (Σ x² + v d² + λ) = 5 / (2 + ½ · 4 + 1) = 1; b = 2.
        let x = arr2(&[[0.0], [1.0], [2.0]]);
        let d = arr2(&[[2.0]]);
        let sparse = Sparse { rows: vec![vec![(0, 2.0)]], columns: 1 };
        let blocks = [Block { columns: Columns::Dense(x.view()), penalty: 1.0 }];
        for columns in [Columns::Dense(d.view()), Columns::Sparse(&sparse)] {
            let differences = Differences { columns: vec![columns], weights: arr1(&[1.0]) };
            let (y, w) = (arr1(&[1.0, 2.0, 6.0]), arr1(&[2.0, 2.0, 2.0]));
            let fit = Ridge::fit_with_differences(&blocks, Some(&differences), &y, &w, EXACT);
            assert!((fit.weights[0][0] - 1.0).abs() < 1e-9, "{fit:?}");
            assert!((fit.intercept - 2.0).abs() < 1e-9, "{fit:?}");
        }
    }

    #[test]
    fn sparse_and_dense_columns_give_the_same_fit() {
        let x = arr2(&[[1.0, 0.0, 0.5], [0.0, 2.0, 0.0], [0.3, 0.0, 0.0], [0.0, 1.0, 1.0]]);
        let entries = |row: ArrayView1<'_, f64>| -> Vec<(u32, f64)> {
            let entries = row.iter().enumerate().filter(|(_, value)| **value != 0.0);
            entries.map(|(column, value)| (column as u32, *value)).collect()
        };
        let rows = x.rows().into_iter().map(entries).collect();
        let sparse = Sparse { rows, columns: 3 };
        let y = arr1(&[1.0, -1.0, 0.5, 2.0]);
        let w = arr1(&[1.0, 3.0, 0.5, 1.0]);
        let dense = [Block { columns: Columns::Dense(x.view()), penalty: 0.5 }];
        let sparse = [Block { columns: Columns::Sparse(&sparse), penalty: 0.5 }];
        let (a, b) = (Ridge::fit(&dense, &y, &w, EXACT), Ridge::fit(&sparse, &y, &w, EXACT));
        for (a, b) in a.weights[0].iter().zip(&b.weights[0]) {
            assert!((a - b).abs() < 1e-8, "{a} {b}");
        }
    }
}
