//! Calibration with two parameters: raw scores → probabilities, order kept.
//!
//! `p = σ(slope · raw + intercept)` by weighted maximum likelihood on held-out scores (Platt 1999,
//! "Probabilistic outputs for support vector machines"). Labels may be soft. The slope never falls
//! below a positive bound, so calibration cannot turn an order round.

/// A fitted calibration.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Platt {
    /// Above 0.
    pub slope: f64,
    /// Added last.
    pub intercept: f64,
}

/// Least slope for raw scores of standard deviation 1: nearly flat, still strictly increasing.
const LEAST_SLOPE: f64 = 0.02;
const MAX_STEPS: usize = 100;

impl Platt {
    /// Fits. `labels` lie in 0..=1 and `weights` are not negative; all three have one length.
    pub fn fit(raw: &[f64], labels: &[f64], weights: &[f64]) -> Self {
        let total: f64 = weights.iter().sum();
        let mean_of = |values: &[f64]| -> f64 {
            values.iter().zip(weights).map(|(value, weight)| value * weight).sum::<f64>() / total
        };
        let mean = mean_of(raw);
        let squares: Vec<f64> = raw.iter().map(|raw| (raw - mean).powi(2)).collect();
        let spread = mean_of(&squares).sqrt().max(1e-9);
        let points: Vec<Point> = raw
            .iter()
            .zip(labels)
            .zip(weights)
            .map(|((raw, label), weight)| Point {
                x: (raw - mean) / spread,
                label: *label,
                weight: weight / total,
            })
            .collect();
        let rate = mean_of(labels).clamp(1e-6, 1.0 - 1e-6);
        let start = (0.0, (rate / (1.0 - rate)).ln());
        let (mut slope, mut intercept) = newton(&points, start, true);
        if slope < LEAST_SLOPE {
            (slope, intercept) = newton(&points, (LEAST_SLOPE, start.1), false);
        }
        Self { slope: slope / spread, intercept: intercept - slope / spread * mean }
    }

    /// The calibrated logit.
    pub fn logit(&self, raw: f64) -> f64 {
        self.slope * raw + self.intercept
    }

    /// The calibrated probability.
    pub fn probability(&self, raw: f64) -> f64 {
        sigmoid(self.logit(raw))
    }
}

/// Platt's targets for labels that are 0 or 1: `(n₊ + 1) / (n₊ + 2)` and `1 / (n₋ + 2)`, which keep
/// a handful of separable rows from asking for an infinite slope.
pub fn smoothed(labels: &[f64]) -> Vec<f64> {
    let positive: f64 = labels.iter().sum();
    let negative = labels.len() as f64 - positive;
    let (high, low) = ((positive + 1.0) / (positive + 2.0), 1.0 / (negative + 2.0));
    labels.iter().map(|label| label * high + (1.0 - label) * low).collect()
}

/// 1 / (1 + e^−z)
pub fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

struct Point {
    x: f64,
    label: f64,
    weight: f64,
}

/// Newton's method with halved steps; without `with_slope` only the intercept moves.
fn newton(points: &[Point], start: (f64, f64), with_slope: bool) -> (f64, f64) {
    let (mut slope, mut intercept) = start;
    let mut loss = log_loss(points, slope, intercept);
    for _ in 0..MAX_STEPS {
        // Gradient (g) and Hessian (h) in (slope, intercept).
        let (mut gs, mut gi, mut hss, mut hsi, mut hii) = (0.0, 0.0, 1e-9, 0.0, 1e-9);
        for Point { x, label, weight } in points {
            let p = sigmoid(slope * x + intercept);
            let (error, curve) = (weight * (p - label), weight * p * (1.0 - p));
            gs += error * x;
            gi += error;
            hss += curve * x * x;
            hsi += curve * x;
            hii += curve;
        }
        let (ds, di) = if with_slope {
            let determinant = hss * hii - hsi * hsi;
            ((hii * gs - hsi * gi) / determinant, (hss * gi - hsi * gs) / determinant)
        } else {
            (0.0, gi / hii)
        };
        let mut step = 1.0;
        let mut next = log_loss(points, slope - ds, intercept - di);
        while next > loss && step > 1e-6 {
            step /= 2.0;
            next = log_loss(points, slope - step * ds, intercept - step * di);
        }
        if next >= loss {
            break;
        }
        slope -= step * ds;
        intercept -= step * di;
        let gained = loss - next;
        loss = next;
        if gained < 1e-14 {
            break;
        }
    }
    (slope, intercept)
}

/// `Σ w (ln(1 + e^z) − y z)`
fn log_loss(points: &[Point], slope: f64, intercept: f64) -> f64 {
    let loss = |Point { x, label, weight }: &Point| {
        let z = slope * x + intercept;
        let softplus = z.max(0.0) + (-z.abs()).exp().ln_1p();
        weight * (softplus - label * z)
    };
    points.iter().map(loss).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_scores_with_known_rates_are_met_exactly() {
        // At raw 0 one in four fails, at raw 2 three in four: logits −ln 3 and ln 3.
        let raw = [0.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0];
        let labels = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0];
        let platt = Platt::fit(&raw, &labels, &[1.0; 8]);
        assert!((platt.slope - 3f64.ln()).abs() < 1e-6, "{platt:?}");
        assert!((platt.intercept + 3f64.ln()).abs() < 1e-6, "{platt:?}");
        assert!((platt.probability(2.0) - 0.75).abs() < 1e-6);
        // The same from soft labels and weights.
        assert_eq!(
            (Platt::fit(&[0.0, 2.0], &[0.25, 0.75], &[3.0, 3.0]).slope * 1e6).round(),
            (3f64.ln() * 1e6).round()
        );
    }

    #[test]
    fn smoothed_labels_worked_by_hand() {
        assert_eq!(smoothed(&[1.0, 0.0, 0.0]), [2.0 / 3.0, 0.25, 0.25]);
    }

    proptest! {
        /// Whatever the labels, a higher raw score never gets a lower probability.
        #[test]
        fn calibration_keeps_the_order(
            rows in proptest::collection::vec((-5.0f64..5.0, 0.0f64..=1.0), 2..40),
        ) {
            let (raw, labels): (Vec<f64>, Vec<f64>) = rows.into_iter().unzip();
            let platt = Platt::fit(&raw, &labels, &vec![1.0; raw.len()]);
            prop_assert!(platt.slope > 0.0 && platt.slope.is_finite());
            prop_assert!(platt.intercept.is_finite());
        }
    }
}
