//! Where a model stands on the scale of the score, from some tens of its answers.
//!
//! The score orders prompts by difficulty; a model has an ability on that scale:
//!
//! ```text
//! P(fails | score) = σ(slope · logit(score) + intercept)
//! ```
//!
//! Two parameters, fitted by maximum a posteriori (a logistic item response model with known item
//! difficulties: Rasch 1960, Birnbaum 1968), so that few answers suffice. Intervals come from the
//! curvature at the maximum (Laplace's approximation).

/// What is believed of a model without any answer (chosen: wide beside the difference between a 7B
/// model and the best): the score read as it is, give or take.
const PRIOR_SLOPE: (f64, f64) = (1.0, 0.5);
const PRIOR_INTERCEPT: (f64, f64) = (0.0, 1.5);
/// Scores are kept this far from 0 and 1, where a logit has no end.
const EDGE: f64 = 0.005;
const STEPS: usize = 50;
/// Of a normal distribution, for 95 %.
const Z95: f64 = 1.96;

/// A model on the scale of the score.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Placement {
    /// How sharply it fails with difficulty; 1 when the score can be read as it is.
    pub slope: f64,
    /// Below 0 for a model that fails less than the score says.
    pub intercept: f64,
    /// Answers that it was fitted to.
    pub answers: usize,
    /// Variances of slope and intercept, and their covariance.
    #[serde(skip)]
    variance: (f64, f64, f64),
}

/// A chance with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Chance {
    /// Most likely.
    pub value: f64,
    /// 2.5 %.
    pub low: f64,
    /// 97.5 %.
    pub high: f64,
}

impl Placement {
    /// Fits to `(score, how far the answer failed)`, both in 0..=1.
    pub fn fit(answers: &[(f64, f64)]) -> Self {
        let (mut slope, mut intercept) = (PRIOR_SLOPE.0, PRIOR_INTERCEPT.0);
        let precision = |(_, spread): (f64, f64)| 1.0 / (spread * spread);
        let (of_slope, of_intercept) = (precision(PRIOR_SLOPE), precision(PRIOR_INTERCEPT));
        let mut curvature = (of_slope, 0.0, of_intercept);
        for _ in 0..STEPS {
            let mut gradient = (
                (slope - PRIOR_SLOPE.0) * of_slope,
                (intercept - PRIOR_INTERCEPT.0) * of_intercept,
            );
            curvature = (of_slope, 0.0, of_intercept);
            for (score, fails) in answers {
                let x = logit(*score);
                let p = sigmoid(slope * x + intercept);
                let (error, weight) = (p - fails, p * (1.0 - p));
                gradient.0 += error * x;
                gradient.1 += error;
                curvature.0 += weight * x * x;
                curvature.1 += weight * x;
                curvature.2 += weight;
            }
            // The prior keeps the curvature positive, so this is a descent direction; a long step
            // is cut short.
            let (a, b, c) = curvature;
            let determinant = a * c - b * b;
            let step = (
                (c * gradient.0 - b * gradient.1) / determinant,
                (a * gradient.1 - b * gradient.0) / determinant,
            );
            let length = step.0.hypot(step.1);
            let cut = if length > 1.0 { 1.0 / length } else { 1.0 };
            slope -= cut * step.0;
            intercept -= cut * step.1;
            if length < 1e-10 {
                break;
            }
        }
        let (a, b, c) = curvature;
        let determinant = a * c - b * b;
        Self {
            slope,
            intercept,
            answers: answers.len(),
            variance: (c / determinant, a / determinant, -b / determinant),
        }
    }

    /// The chance that the model fails a prompt of this score.
    pub fn fails(&self, score: f64) -> Chance {
        let x = logit(score);
        let (slope, intercept, both) = self.variance;
        let spread = (slope * x * x + intercept + 2.0 * both * x).max(0.0).sqrt();
        let middle = self.slope * x + self.intercept;
        Chance {
            value: sigmoid(middle),
            low: sigmoid(middle - Z95 * spread),
            high: sigmoid(middle + Z95 * spread),
        }
    }

    /// The score at which the chance to fail reaches `rate`, in 0..=1: a tier of this model that
    /// ends `below` it has no prompt that is expected to fail more often. `None` when its failures
    /// do not rise with the score.
    pub fn below(&self, rate: f64) -> Option<f64> {
        let rate = rate.clamp(EDGE, 1.0 - EDGE);
        let x = ((rate / (1.0 - rate)).ln() - self.intercept) / self.slope;
        (self.slope > 0.0).then(|| sigmoid(x))
    }
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

fn logit(p: f64) -> f64 {
    let p = p.clamp(EDGE, 1.0 - EDGE);
    (p / (1.0 - p)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::random::Random;

    #[test]
    fn without_answers_the_score_is_read_as_it_is() {
        let placed = Placement::fit(&[]);
        for score in [0.1, 0.5, 0.9] {
            assert!((placed.fails(score).value - score).abs() < 1e-9);
        }
        assert!((placed.below(0.3).unwrap() - 0.3).abs() < 1e-9);
    }

    #[test]
    fn answers_of_a_known_model_find_it() {
        let (slope, intercept) = (1.4, -0.8);
        let mut random = Random::new(3);
        let answers: Vec<(f64, f64)> = (0..4_000)
            .map(|_| {
                let score = random.uniform();
                let p = sigmoid(slope * logit(score) + intercept);
                (score, f64::from(u8::from(random.uniform() < p)))
            })
            .collect();
        let placed = Placement::fit(&answers);
        assert!((placed.slope - slope).abs() < 0.15, "{placed:?}");
        assert!((placed.intercept - intercept).abs() < 0.15, "{placed:?}");
        // Forty answers: the truth lies in the interval, which is wide.
        let few = Placement::fit(&answers[..40]);
        let (chance, truth) = (few.fails(0.5), sigmoid(intercept));
        assert!(chance.low < truth && truth < chance.high, "{chance:?} {truth}");
        assert!(chance.high - chance.low > 0.1);
        let limit = placed.below(0.2).unwrap();
        assert!((placed.fails(limit).value - 0.2).abs() < 1e-6);
    }

    #[test]
    fn answers_that_all_succeed_do_not_run_away() {
        let placed = Placement::fit(&vec![(0.5, 0.0); 30]);
        assert!(placed.intercept.is_finite() && placed.fails(0.5).value > 0.001);
    }
}
