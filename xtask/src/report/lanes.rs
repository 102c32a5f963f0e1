//! Stretches of time side by side: a trace's reader wants those of one line to lie apart or one inside the other.

/// A stretch of time, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Begin.
    pub begin_us: u64,
    /// End, not before the begin.
    pub end_us: u64,
}

/// A lane for each stretch, from 0, as few as the order of begins allows: in one lane, any two lie apart or one lies in
/// the other.
#[must_use]
pub fn lanes(stretches: &[Stretch]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..stretches.len()).collect();
    order.sort_by_key(|index| (stretches[*index].begin_us, std::cmp::Reverse(stretches[*index].end_us)));
    let mut chosen = vec![0; stretches.len()];
    // By lane, the ends of the stretches that are open, the innermost last.
    let mut open: Vec<Vec<u64>> = Vec::new();
    for index in order {
        let Stretch { begin_us, end_us } = stretches[index];
        for ends in &mut open {
            while ends.last().is_some_and(|end| *end <= begin_us) {
                ends.pop();
            }
        }
        let fits = open.iter().position(|ends| ends.last().is_none_or(|end| end_us <= *end));
        let lane = fits.unwrap_or_else(|| {
            open.push(Vec::new());
            open.len() - 1
        });
        open[lane].push(end_us);
        chosen[index] = lane;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(stretches: &[(u64, u64)], expected: &[usize]) {
        let stretches: Vec<Stretch> =
            stretches.iter().map(|(begin_us, end_us)| Stretch { begin_us: *begin_us, end_us: *end_us }).collect();
        assert_eq!(lanes(&stretches), expected, "{stretches:?}");
    }

    #[test]
    fn what_crosses_goes_beside() {
        check(&[], &[]);
        check(&[(0, 10), (2, 5), (5, 10), (10, 12)], &[0, 0, 0, 0]);
        check(&[(0, 10), (5, 15), (11, 14), (15, 16)], &[0, 1, 0, 0]);
        check(&[(2, 3), (0, 10)], &[0, 0]);
    }

    proptest! {
        #[test]
        fn in_one_lane_nothing_crosses(pairs in prop::collection::vec((0_u64..60, 0_u64..20), 0..40)) {
            let stretches: Vec<Stretch> =
                pairs.iter().map(|(begin_us, length)| Stretch { begin_us: *begin_us, end_us: begin_us + length }).collect();
            let lanes = lanes(&stretches);
            for (one, a) in stretches.iter().enumerate() {
                for (other, b) in stretches.iter().enumerate().filter(|(other, _)| lanes[one] == lanes[*other]) {
                    let crosses = a.begin_us < b.begin_us && b.begin_us < a.end_us && a.end_us < b.end_us;
                    prop_assert!(one == other || !crosses, "{a:?} and {b:?} cross");
                }
            }
        }
    }
}
