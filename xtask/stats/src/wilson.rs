//! Interval of a rate: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).

/// 97.5 % quantile of the standard normal distribution.
const NORMAL_975: f64 = 1.959_963_984_540_054;

/// Returns the 95 % interval of the rate that gave `hits` in `trials`, within 0 to 1; (0, 1) without trials.
#[must_use]
pub fn wilson(hits: usize, trials: usize) -> (f64, f64) {
    if trials == 0 {
        return (0.0, 1.0);
    }
    let (count, rate) = (trials as f64, hits.min(trials) as f64 / trials as f64);
    let square = NORMAL_975 * NORMAL_975;
    let middle = (rate + square / (2.0 * count)) / (1.0 + square / count);
    let half =
        NORMAL_975 / (1.0 + square / count) * (rate * (1.0 - rate) / count + square / (4.0 * count * count)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_as_scipy_gives_them() {
        let check = |hits, trials, (low, high): (f64, f64)| {
            let found = wilson(hits, trials);
            assert!((found.0 - low).abs() < 1e-12 && (found.1 - high).abs() < 1e-12, "{hits} of {trials}: {found:?}");
        };
        check(3, 200, (0.005_114_237_793_258_31, 0.043_165_728_792_690_26));
        check(0, 50, (0.0, 0.071_347_599_133_358_72));
        check(79, 100, (0.700_200_311_659_101_3, 0.858_343_459_380_847));
        check(0, 0, (0.0, 1.0));
        assert_eq!(wilson(7, 5), wilson(5, 5));
    }
}
