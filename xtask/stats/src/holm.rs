//! Correction for many tests at once: Holm, "A simple sequentially rejective multiple test procedure" (1979).

/// Tells which p-values are significant at `alpha` when all are tested together: the smallest is compared with alpha / m, the next one with
/// alpha / (m - 1) and so on, until a p-value exceeds its bound. The chance of any false significance is at most alpha, however the tests
/// depend on each other. A p-value that is NaN is never significant.
#[must_use]
pub fn holm(p_values: &[f64], alpha: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|one, other| p_values[*one].total_cmp(&p_values[*other]));
    let mut stands = vec![false; p_values.len()];
    for (rank, place) in order.into_iter().enumerate() {
        let bound = alpha / (p_values.len() - rank) as f64;
        if !(0.0..=bound).contains(&p_values[place]) {
            break;
        }
        stands[place] = true;
    }
    stands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_held_to_its_share() {
        // Bounds at 0.05: 0.0125, 0.0167, 0.025, 0.05, in the order of the p.
        assert_eq!(holm(&[0.01, 0.04, 0.03, 0.005], 0.05), [true, false, false, true]);
        assert_eq!(holm(&[0.01, 0.015, 0.02, 0.04], 0.05), [true; 4]);
        // One that fails stops all that follow, whatever their own bound.
        assert_eq!(holm(&[0.013, 0.014, 0.015, 0.016], 0.05), [false; 4]);
        assert_eq!(holm(&[0.05], 0.05), [true]);
        assert_eq!(holm(&[], 0.05), [true; 0]);
        assert_eq!(holm(&[f64::NAN, 0.001], 0.05), [false, true]);
    }
}
