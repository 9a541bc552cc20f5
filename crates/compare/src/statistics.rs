//! Statistics of varying figures: medians, and intervals of ratios.

use propagation_core::comparison::Ratio;

/// How often rounds are drawn anew for an interval.
const DRAWS: usize = 2_000;

/// How much of the draws lies on either side outside the interval.
const TAIL: f64 = 0.025;

/// The median; none of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The smallest and the largest; none of nothing.
pub fn range(values: &[f64]) -> Option<(f64, f64)> {
    let smallest = values.iter().copied().min_by(f64::total_cmp)?;
    let largest = values.iter().copied().max_by(f64::total_cmp)?;
    Some((smallest, largest))
}

/// How many times as good the first is as the second, from values of the same rounds.
///
/// Each round gives one ratio, so that what was slow in a round was slow for both; the median of these is the
/// figure, and the interval is that of the medians of rounds drawn again and again with replacement
/// (percentile bootstrap). Rounds in which either has no value count for neither.
pub fn ratio(
    one: &[Option<f64>],
    other: &[Option<f64>],
    more_is_better: bool,
    seed: u64,
) -> Option<Ratio> {
    let pairs = one.iter().zip(other).filter_map(|(one, other)| Some(((*one)?, (*other)?)));
    let ratios: Vec<f64> = pairs
        .filter(|(one, other)| *one > 0.0 && *other > 0.0)
        .map(|(one, other)| if more_is_better { one / other } else { other / one })
        .collect();
    let center = median(&ratios)?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut draw = || {
        let again: Vec<f64> = ratios.iter().map(|_| ratios[random.usize(..ratios.len())]).collect();
        median(&again).unwrap_or(center)
    };
    let mut medians: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
    medians.sort_by(f64::total_cmp);
    let at = |share: f64| medians[((DRAWS - 1) as f64 * share).round() as usize];
    let rounds = u32::try_from(ratios.len()).unwrap_or(u32::MAX);
    Some(Ratio { median: center, low: at(TAIL), high: at(1.0 - TAIL), rounds })
}

#[cfg(test)]
mod tests {
    use propagation_core::comparison::Tendency;

    use super::*;

    fn values(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn medians_and_ranges() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(range(&[3.0, 1.0, 2.0]), Some((1.0, 3.0)));
        assert_eq!(range(&[]), None);
    }

    #[test]
    fn a_difference_in_every_round_is_one_though_rounds_differ_more() {
        // Rounds of a machine that gets slower and slower; one is always 1.3 times the other.
        let slow = [10.0, 20.0, 40.0, 80.0, 160.0, 320.0];
        let fast = slow.map(|value| value / 1.3);
        let found = ratio(&values(&fast), &values(&slow), false, 1).expect("a ratio");
        assert!((found.median - 1.3).abs() < 1e-9, "{found:?}");
        assert_eq!(found.tendency(), Tendency::Better);
        let found = ratio(&values(&fast), &values(&slow), true, 1).expect("a ratio");
        assert_eq!(found.tendency(), Tendency::Worse);
    }

    #[test]
    fn noise_is_no_difference() {
        let one = [10.0, 11.0, 9.0, 10.5, 9.5, 10.2];
        let other = [9.8, 10.1, 10.2, 9.7, 10.4, 10.0];
        let found = ratio(&values(&one), &values(&other), false, 1).expect("a ratio");
        assert!(found.low < 1.0 && found.high > 1.0, "{found:?}");
        assert_eq!(found.tendency(), Tendency::NoDifference);
    }

    #[test]
    fn few_rounds_show_nothing_and_rounds_without_a_value_do_not_count() {
        let one = [Some(1.0), None, Some(1.0), Some(1.0), Some(1.0), Some(1.0)];
        let other = [Some(2.0), Some(2.0), None, Some(2.0), Some(2.0), Some(2.0)];
        let found = ratio(&one, &other, false, 1).expect("a ratio");
        assert_eq!((found.rounds, found.median), (4, 2.0));
        assert_eq!(found.tendency(), Tendency::NoDifference);
        assert_eq!(ratio(&[None], &[Some(1.0)], false, 1), None);
        assert_eq!(ratio(&[Some(0.0)], &[Some(1.0)], false, 1), None);
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let one = values(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        let other = values(&[2.0, 1.0, 2.0, 5.0, 4.0]);
        assert_eq!(ratio(&one, &other, true, 9), ratio(&one, &other, true, 9));
    }
}
