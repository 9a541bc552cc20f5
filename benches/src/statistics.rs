//! Medians and the like.

/// Numbers of one kind.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest number that at least `percent` of all are not above; not a number when there
    /// are none.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// Pair by pair, this divided by the other.
    #[must_use]
    pub fn ratio_to(&self, other: &Self) -> Self {
        std::iter::zip(&self.0, &other.0).map(|(one, other)| one / other).collect()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(Vec::from_iter(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_numbers_that_were_there() {
        let samples: Samples = (1..=200).rev().map(f64::from).collect();
        assert_eq!(samples.median(), 100.0);
        assert_eq!(samples.percentile(99), 198.0);
        assert_eq!(samples.percentile(0), 1.0);
        assert_eq!(samples.percentile(100), 200.0);
        assert!(Samples::default().median().is_nan());
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        let one: Samples = [10.0, 40.0].into_iter().collect();
        let other: Samples = [5.0, 10.0].into_iter().collect();
        assert_eq!(one.ratio_to(&other).percentile(100), 4.0);
    }
}
