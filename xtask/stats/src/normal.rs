//! Standard normal distribution.

/// Returns the probability of a standard normal value above `z`: by the series of the error function below 3 (Abramowitz and Stegun,
/// "Handbook of Mathematical Functions" (1964), 26.2.11), by its continued fraction above (26.2.14). Accurate to ten digits.
#[must_use]
pub fn upper_tail(z: f64) -> f64 {
    if z.is_nan() {
        return f64::NAN;
    }
    let size = z.abs();
    let density = (-size * size / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let tail = if size < 3.0 {
        let (mut term, mut sum, mut odd) = (size, size, 1.0);
        while term > 1e-17 * sum {
            odd += 2.0;
            term *= size * size / odd;
            sum += term;
        }
        0.5 - density * sum
    } else if size > 40.0 {
        0.0
    } else {
        let fraction = (1..=60).rev().fold(size, |inner, step| size + f64::from(step) / inner);
        density / fraction
    };
    if z < 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_as_scipy_gives_them() {
        for (z, expected) in [
            (0.0, 0.5),
            (0.5, 0.308_537_538_725_986_9),
            (1.96, 0.024_997_895_148_220_435),
            (2.999, 0.001_354_336_533_727_105_7),
            (3.0, 0.001_349_898_031_630_093_3),
            (4.5, 3.397_673_124_730_053_5e-6),
            (8.0, 6.220_960_574_271_74e-16),
            (30.0, 4.906_713_927_147_908e-198),
        ] {
            let found = upper_tail(z);
            assert!((found / expected - 1.0).abs() < 1e-9, "{z}: {found}");
            assert!((upper_tail(-z) - (1.0 - expected)).abs() < 1e-12, "{z}");
        }
        assert_eq!(upper_tail(f64::INFINITY), 0.0);
        assert!(upper_tail(f64::NAN).is_nan());
    }
}
