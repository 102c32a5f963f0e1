//! Densities: the distribution of samples as a smooth curve for people. No verdict uses them.

use super::quantile::quantile;

/// Returns the density of samples at each of these places: a sum of normal curves with Silverman's bandwidth, 0.9 min(standard deviation,
/// interquartile range / 1.34) n^(-1/5) ("Density Estimation for Statistics and Data Analysis" (1986), formula 3.31). `None` for fewer
/// than two samples, samples that are all equal, or one that is not finite.
#[must_use]
pub fn density(samples: &[f64], places: &[f64]) -> Option<Vec<f64>> {
    let width = bandwidth(samples)?;
    let scale = samples.len() as f64 * width * std::f64::consts::TAU.sqrt();
    let curve = |place: f64, sample: &f64| (-0.5 * ((place - sample) / width).powi(2)).exp();
    let at = |place: &f64| samples.iter().map(|sample| curve(*place, sample)).sum::<f64>() / scale;
    Some(places.iter().map(at).collect())
}

/// Returns Silverman's bandwidth, from the standard deviation alone where the middle half of the samples is equal.
fn bandwidth(samples: &[f64]) -> Option<f64> {
    let count = samples.len() as f64;
    if samples.len() < 2 || !samples.iter().all(|sample| sample.is_finite()) {
        return None;
    }
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mean = sorted.iter().sum::<f64>() / count;
    let deviation = (sorted.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt();
    let quartiles = quantile(&sorted, 0.75)? - quantile(&sorted, 0.25)?;
    let spread = if quartiles > 0.0 { deviation.min(quartiles / 1.34) } else { deviation };
    let width = 0.9 * spread * count.powf(-0.2);
    (width > 0.0 && width.is_finite()).then_some(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn densities_as_the_formula_gives_them_elsewhere() {
        let samples = [2.1, 2.4, 1.9, 2.2, 9.7, 2.0, 2.3, 2.2];
        let found = density(&samples, &[2.0, 2.2, 9.7]).unwrap();
        for (found, expected) in
            found.iter().zip([1.237_797_018_163_751_2, 1.687_286_088_775_831_2, 0.450_153_215_261_717_5])
        {
            assert!((found - expected).abs() < 1e-12, "{found}, not {expected}");
        }
    }

    #[test]
    fn the_area_below_it_is_one() {
        let samples: Vec<f64> = (0..30).map(|place| f64::from(place * 7 % 30)).collect();
        let places: Vec<f64> = (-400..800).map(|place| f64::from(place) / 10.0).collect();
        let area = density(&samples, &places).unwrap().iter().sum::<f64>() / 10.0;
        assert!((area - 1.0).abs() < 1e-6, "{area}");
    }

    #[test]
    fn without_a_spread_there_is_no_curve() {
        for samples in [&[][..], &[1.0], &[2.0, 2.0, 2.0], &[1.0, f64::NAN], &[1.0, f64::INFINITY]] {
            assert_eq!(density(samples, &[1.0]), None, "{samples:?}");
        }
        assert!(density(&[2.0, 2.0, 2.0, 2.0, 3.0], &[2.0]).is_some(), "the same in the middle half");
    }
}
