//! Differences between expected and found items.

use std::collections::BTreeMap;
use std::fmt;

/// Maximum number of differences that are listed.
const DIFFERENCES_SHOWN: usize = 6;

/// Lists the items that only one side has, or that the sides have in different numbers. Their order does not matter.
#[must_use]
pub fn differences<T: Ord + fmt::Display>(expected: &[T], found: &[T]) -> Vec<String> {
    let mut balance: BTreeMap<&T, i64> = BTreeMap::new();
    expected.iter().for_each(|item| *balance.entry(item).or_default() += 1);
    found.iter().for_each(|item| *balance.entry(item).or_default() -= 1);
    let described = |(item, count): (&T, i64)| match count {
        0 => None,
        1.. => Some(format!("missing {item}")),
        _ => Some(format!("not expected {item}")),
    };
    let mut all: Vec<String> = balance.into_iter().filter_map(described).collect();
    let hidden = all.len().saturating_sub(DIFFERENCES_SHOWN);
    all.truncate(DIFFERENCES_SHOWN);
    all.extend((hidden > 0).then(|| format!("{hidden} more")));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_count() {
        assert_eq!(differences(&[1, 2, 2], &[2, 1, 2]), Vec::<String>::new());
        assert_eq!(differences(&[1, 2], &[2, 2, 3]), ["missing 1", "not expected 2", "not expected 3"]);
        assert_eq!(differences(&[1, 2, 3, 4, 5, 6, 7, 8], &[])[5..], ["missing 6", "2 more"]);
    }
}
