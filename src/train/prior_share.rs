//! How much of the prior a fit keeps, so that it does not end below what it started from.
//!
//! The way from fit to prior is a mixture, and held-out folds say how far to go: the least share
//! of the prior with which the mixture is not worse than the prior itself by more than half a
//! standard error of the difference. The share 1 is the prior, so some share always holds. All or
//! nothing, judged by one draw of folds, kept the prior in most fits of 100 labels though the fit
//! was better on other rows (measured: see the model card).

use ndarray::Array1;

use super::blocks::standardised;
use crate::evaluate::{metrics::apgr, random::Random};

/// How much worse than the prior a mixture may look, in standard errors (chosen among 0, ¼, ½ and 1
/// by quality on rows that were not learned from: a plateau around ½).
const TOLERANCE: f64 = 0.5;
/// Steps between the fit and the prior.
const STEPS: usize = 20;
/// Bootstrap draws behind the standard error.
const DRAWS: usize = 100;

/// The share in 0..=1. `held_out` are scores of the fit by several draws of folds, `[n]` each;
/// `prior` the prior's, and `gain` what the strong model gains, `[n]`. Where the gain of the rows
/// cannot judge an order at all, the prior stays.
pub fn prior_share(held_out: &[Array1<f64>], prior: &Array1<f64>, gain: &[f64], seed: u64) -> f64 {
    let prior = standardised(prior);
    let Some(of_prior) = apgr(&prior.to_vec(), gain) else { return 1.0 };
    let held_out: Vec<Array1<f64>> = held_out.iter().map(standardised).collect();
    let allowed = of_prior - TOLERANCE * standard_error(&held_out, &prior, gain, seed);
    let shares = (0..STEPS).map(|step| step as f64 / STEPS as f64);
    let holds = |share: &f64| {
        let areas = held_out.iter().filter_map(|fit| apgr(&mixed(fit, &prior, *share), gain));
        let (sum, count) = areas.fold((0.0, 0usize), |(sum, count), area| (sum + area, count + 1));
        count > 0 && sum / count as f64 >= allowed
    };
    shares.into_iter().find(holds).unwrap_or(1.0)
}

/// `(1 − share) · fit + share · prior`
fn mixed(fit: &Array1<f64>, prior: &Array1<f64>, share: f64) -> Vec<f64> {
    fit.iter().zip(prior).map(|(fit, prior)| (1.0 - share) * fit + share * prior).collect()
}

/// Of the difference in APGR between the mean held-out score and the prior, over draws of rows.
fn standard_error(held_out: &[Array1<f64>], prior: &Array1<f64>, gain: &[f64], seed: u64) -> f64 {
    let n = prior.len();
    let mut fit = Array1::zeros(n);
    held_out.iter().for_each(|scores| fit += scores);
    let mut random = Random::new(seed ^ 0x5e);
    let differences: Array1<f64> = (0..DRAWS)
        .filter_map(|_| {
            let rows: Vec<usize> = (0..n).map(|_| random.below(n)).collect();
            let gain: Vec<f64> = rows.iter().filter_map(|row| gain.get(*row).copied()).collect();
            let of = |scores: &Array1<f64>| {
                let scores: Vec<f64> = rows.iter().map(|row| scores[*row]).collect();
                apgr(&scores, &gain)
            };
            Some(of(&fit)? - of(prior)?)
        })
        .collect();
    differences.std(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gains of 0 and 1, a score that knows them as well as `known` says, and one of chance.
    fn scores(n: usize, known: f64) -> (Vec<f64>, Array1<f64>, Array1<f64>) {
        let mut random = Random::new(9);
        let gain: Vec<f64> = (0..n).map(|_| f64::from(u8::from(random.uniform() < 0.5))).collect();
        let knowing = gain.iter().map(|gain| known * gain + random.uniform()).collect();
        let chance = (0..n).map(|_| random.uniform()).collect();
        (gain, knowing, chance)
    }

    #[test]
    fn a_fit_that_is_better_keeps_nothing_and_one_of_chance_nearly_all() {
        let (gain, knowing, chance) = scores(400, 1.0);
        let fit_knows = prior_share(std::slice::from_ref(&knowing), &chance, &gain, 1);
        assert_eq!(fit_knows, 0.0);
        let prior_knows = prior_share(std::slice::from_ref(&chance), &knowing, &gain, 1);
        assert!(prior_knows > 0.6, "{prior_knows}");
    }

    #[test]
    fn between_two_that_know_the_same_nothing_is_kept_and_without_gain_everything() {
        let (gain, knowing, _) = scores(60, 1.0);
        assert_eq!(prior_share(std::slice::from_ref(&knowing), &knowing, &gain, 1), 0.0);
        let none = vec![0.0; 60];
        assert_eq!(prior_share(std::slice::from_ref(&knowing), &knowing, &none, 1), 1.0);
    }

    #[test]
    fn a_mixture_worked_by_hand() {
        let (fit, prior) = (ndarray::arr1(&[1.0, -1.0]), ndarray::arr1(&[-1.0, 1.0]));
        assert_eq!(mixed(&fit, &prior, 0.25), [0.5, -0.5]);
    }
}
