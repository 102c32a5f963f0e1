//! The standard normal distribution.

/// The chance of a standard normal value above `z`. By the series of the error function below 3 (Abramowitz and Stegun,
/// "Handbook of Mathematical Functions" (1964), 26.2.11), by its continued fraction above (26.2.14); good to ten digits.
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
