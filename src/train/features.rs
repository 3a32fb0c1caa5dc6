//! What the head sees of the rows, as matrices: embeddings, weighed words, facts.
//!
//! The words' weights (idf) and the facts' standardisation are learned from rows, so they are
//! functions of the rows that may be looked at; the callers keep held-out rows out.

use ndarray::{Array1, Array2, ArrayView1, Axis};

use crate::classify::{
    facts::{FACTS, TextFeatures},
    head::buckets,
};

/// Buckets of the hashed words of a general head (measured: 2^15 to 2^18 do not differ).
pub const BUCKETS: usize = 1 << 16;

/// Features of all rows, `n` of them, before anything is learned from them.
#[derive(Debug, Clone)]
pub struct Features {
    /// `[n, hidden]`, rows L2-normalised.
    pub embeddings: Array2<f64>,
    /// `[n, 18]`, each in 0..=1.
    pub facts: Array2<f64>,
    /// `(bucket, 1 + ln count)` of each row, ascending by bucket.
    words: Vec<Vec<(u32, f64)>>,
    buckets: usize,
}

impl Features {
    /// Reads the texts' words and facts beside their embeddings, `[n, hidden]`.
    pub fn read(texts: &[&str], embeddings: Array2<f64>, bucket_count: usize) -> Self {
        let mut facts = Array2::zeros((texts.len(), FACTS));
        let mut words = Vec::with_capacity(texts.len());
        for (text, mut row) in texts.iter().zip(facts.rows_mut()) {
            let features = TextFeatures::read(text);
            row.iter_mut().zip(features.facts).for_each(|(to, from)| *to = f64::from(from));
            let counted = buckets(&features.word_hashes, bucket_count).into_iter();
            words.push(
                counted.map(|(at, count)| (at as u32, 1.0 + f64::from(count).ln())).collect(),
            );
        }
        Self { embeddings, facts, words, buckets: bucket_count }
    }

    /// The chosen rows.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            embeddings: self.embeddings.select(Axis(0), rows),
            facts: self.facts.select(Axis(0), rows),
            words: rows.iter().filter_map(|row| self.words.get(*row).cloned()).collect(),
            buckets: self.buckets,
        }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// idf of each bucket over the chosen rows, `[buckets]`:
    /// `ln((1 + n) / (1 + df)) + 1` where at least two of them hold it, else 0.
    pub fn idf(&self, rows: &[usize]) -> Vec<f64> {
        let mut frequency = vec![0u32; self.buckets];
        for row in rows.iter().filter_map(|row| self.words.get(*row)) {
            for (bucket, _) in row {
                if let Some(frequency) = frequency.get_mut(*bucket as usize) {
                    *frequency += 1;
                }
            }
        }
        let n = 1.0 + rows.len() as f64;
        let weigh = |df: u32| if df >= 2 { (n / (1.0 + f64::from(df))).ln() + 1.0 } else { 0.0 };
        frequency.into_iter().map(weigh).collect()
    }

    /// Every row's words under an idf, L2-normalised; a row without known words is zero.
    pub fn words(&self, idf: &[f64]) -> Sparse {
        let rows = self.words.iter().map(|row| {
            let weigh = |(bucket, value): &(u32, f64)| {
                let idf = idf.get(*bucket as usize).copied().unwrap_or_default();
                (idf > 0.0).then_some((*bucket, value * idf))
            };
            let row: Vec<(u32, f64)> = row.iter().filter_map(weigh).collect();
            let norm = row.iter().map(|(_, value)| value * value).sum::<f64>().sqrt();
            row.into_iter().map(move |(bucket, value)| (bucket, value / norm)).collect()
        });
        Sparse { rows: rows.collect(), columns: self.buckets }
    }

    /// Mean and spread of each fact over the chosen rows. `floor` is added to the standard
    /// deviation, so that a fact that hardly varies there cannot dominate elsewhere.
    pub fn standard(&self, rows: &[usize], floor: f64) -> Standard {
        let n = rows.len().max(1) as f64;
        let mut mean = Array1::zeros(FACTS);
        for row in rows {
            mean += &self.facts.row(*row);
        }
        mean /= n;
        let mut variance = Array1::<f64>::zeros(FACTS);
        for row in rows {
            variance += &(&self.facts.row(*row) - &mean).mapv(|d| d * d);
        }
        Standard { mean, spread: (variance / n).mapv(|v| v.sqrt() + floor) }
    }
}

/// How facts are brought to mean 0 and spread 1.
#[derive(Debug, Clone)]
pub struct Standard {
    /// `[18]`
    pub mean: Array1<f64>,
    /// `[18]`, above 0.
    pub spread: Array1<f64>,
}

impl Standard {
    /// `(f − mean) / spread`, `[n, 18]`.
    pub fn apply(&self, facts: &Array2<f64>) -> Array2<f64> {
        (facts - &self.mean) / &self.spread
    }
}

/// A sparse matrix by rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Sparse {
    /// `(column, value)`, ascending by column.
    pub rows: Vec<Vec<(u32, f64)>>,
    /// Columns, whether or not one holds a value.
    pub columns: usize,
}

impl Sparse {
    /// `X v`: `[columns]` → `[n]`.
    pub fn dot(&self, vector: ArrayView1<'_, f64>) -> Array1<f64> {
        let product = |row: &Vec<(u32, f64)>| {
            row.iter().map(|(column, value)| value * vector[*column as usize]).sum::<f64>()
        };
        self.rows.iter().map(product).collect()
    }

    /// `Xᵀ v`: `[n]` → `[columns]`.
    pub fn transposed_dot(&self, vector: ArrayView1<'_, f64>) -> Array1<f64> {
        let mut sum = Array1::zeros(self.columns);
        for (row, factor) in self.rows.iter().zip(vector) {
            if *factor != 0.0 {
                for (column, value) in row {
                    sum[*column as usize] += factor * value;
                }
            }
        }
        sum
    }

    /// The chosen rows.
    pub fn select(&self, rows: &[usize]) -> Self {
        let rows = rows.iter().filter_map(|row| self.rows.get(*row).cloned()).collect();
        Self { rows, columns: self.columns }
    }

    /// These rows and others of the same columns.
    pub fn and(&self, other: &Self) -> Self {
        let rows = self.rows.iter().chain(&other.rows).cloned().collect();
        Self { rows, columns: self.columns }
    }

    /// `X − Y`, row by row; both have the same rows and columns.
    pub fn minus(&self, other: &Self) -> Self {
        let rows = self.rows.iter().zip(&other.rows).map(|(row, other)| {
            let negated = other.iter().map(|(column, value)| (*column, -value));
            let mut row: Vec<(u32, f64)> = row.iter().copied().chain(negated).collect();
            row.sort_by_key(|(column, _)| *column);
            row.dedup_by(|next, kept| {
                let same = next.0 == kept.0;
                if same {
                    kept.1 += next.1;
                }
                same
            });
            row
        });
        Self { rows: rows.collect(), columns: self.columns }
    }

    /// `X Xᵀ`, `[n, n]`.
    pub fn gram(&self) -> Array2<f64> {
        let n = self.rows.len();
        let mut gram = Array2::zeros((n, n));
        let mut spread = Array1::<f64>::zeros(self.columns);
        for (i, row) in self.rows.iter().enumerate() {
            row.iter().for_each(|(column, value)| spread[*column as usize] = *value);
            for (j, other) in self.rows.iter().enumerate().take(i + 1) {
                let dot = other.iter().map(|(column, value)| value * spread[*column as usize]);
                let dot = dot.sum();
                gram[[i, j]] = dot;
                gram[[j, i]] = dot;
            }
            row.iter().for_each(|(column, _)| spread[*column as usize] = 0.0);
        }
        gram
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{arr1, arr2};

    use super::*;

    fn sparse() -> Sparse {
        Sparse { rows: vec![vec![(0, 1.0), (2, 2.0)], vec![(1, 3.0)], vec![]], columns: 3 }
    }

    #[test]
    fn sparse_products_worked_by_hand() {
        let x = sparse();
        assert_eq!(x.dot(arr1(&[1.0, 10.0, 100.0]).view()), arr1(&[201.0, 30.0, 0.0]));
        assert_eq!(x.transposed_dot(arr1(&[1.0, 10.0, 5.0]).view()), arr1(&[1.0, 30.0, 2.0]));
        assert_eq!(x.gram(), arr2(&[[5.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0]]));
        assert_eq!(x.select(&[1]).rows, [vec![(1, 3.0)]]);
        let other = Sparse { rows: vec![vec![(1, 1.0), (2, 0.5)], vec![], vec![]], columns: 3 };
        let difference = [vec![(0, 1.0), (1, -1.0), (2, 1.5)], vec![(1, 3.0)], vec![]];
        assert_eq!(x.minus(&other).rows, difference);
    }

    #[test]
    fn words_are_weighed_as_the_head_weighs_them() {
        let texts = ["red red blue", "red green", "blue"];
        let features = Features::read(&texts, Array2::zeros((3, 1)), BUCKETS);
        let idf = features.idf(&[0, 1, 2]);
        // `red` and `blue` stand in two rows each, everything else in one: ln(4/3) + 1.
        assert_eq!(idf.iter().filter(|idf| **idf > 0.0).count(), 2);
        assert!(idf.iter().all(|idf| *idf == 0.0 || (idf - (4f64 / 3.0).ln() - 1.0).abs() < 1e-12));
        let words = features.words(&idf);
        let norm = ((1.0 + 2f64.ln()).powi(2) + 1.0).sqrt();
        let mut first: Vec<f64> = words.rows[0].iter().map(|(_, value)| *value).collect();
        first.sort_by(f64::total_cmp);
        assert!((first[0] - 1.0 / norm).abs() < 1e-12);
        assert!((first[1] - (1.0 + 2f64.ln()) / norm).abs() < 1e-12);
        assert_eq!(words.rows[2].len(), 1);
    }

    #[test]
    fn facts_are_standardised_by_the_chosen_rows() {
        let mut features = Features::read(&["a", "b", "c"], Array2::zeros((3, 1)), 16);
        features.facts.column_mut(0).assign(&arr1(&[0.0, 1.0, 0.25]));
        let standard = features.standard(&[0, 1], 0.0);
        assert_eq!((standard.mean[0], standard.spread[0]), (0.5, 0.5));
    }
}
