//! Many tests at once: Holm, "A simple sequentially rejective multiple test procedure" (1979).

/// Which of these p stand at `alpha` when all are looked at together: the smallest is held to alpha / m, the next one to
/// alpha / (m - 1) and so on, until one fails. The chance of any false one is at most alpha, however the tests depend on
/// each other. A p that is no number stands never.
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
