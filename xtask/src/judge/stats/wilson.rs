//! The interval of a rate: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).

/// The normal's 97.5 % quantile.
const NORMAL_975: f64 = 1.959_963_984_540_054;

/// The 95 % interval of the rate that gave `hits` in `trials`, each within 0 to 1; (0, 1) without trials.
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
