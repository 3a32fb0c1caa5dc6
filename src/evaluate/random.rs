//! Seeded draws: SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
//! generators"), so that a seed gives the same folds and intervals on every machine and with
//! every version of a dependency.

/// A stream of draws.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in 0..1.
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An index below `count`, which is not zero. The bias is below 2⁻⁴⁰ for any data set.
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }

    /// `0..count` in random order (Fisher and Yates).
    pub fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }

    /// The fold in `0..folds` of each of `count` rows: sizes differ by at most one.
    pub fn folds(&mut self, count: usize, folds: usize) -> Vec<usize> {
        let mut fold = vec![0; count];
        for (place, row) in self.permutation(count).into_iter().enumerate() {
            if let Some(fold) = fold.get_mut(row) {
                *fold = place % folds;
            }
        }
        fold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_published_one() {
        // First outputs of SplitMix64 for the seed 1234567 (Rosetta Code).
        let mut random = Random::new(1_234_567);
        let drawn = [random.next(), random.next(), random.next()];
        assert_eq!(
            drawn,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,]
        );
    }

    #[test]
    fn folds_are_even_and_repeatable() {
        let folds = Random::new(3).folds(11, 4);
        assert_eq!(folds, Random::new(3).folds(11, 4));
        for fold in 0..4 {
            let size = folds.iter().filter(|of| **of == fold).count();
            assert!((2..=3).contains(&size));
        }
    }
}
