//! Long tables, kept short.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::Serialize;

/// Maximum rows of a table.
pub const ROWS_MAX: usize = 400;

/// Rows, and how many there are that are not shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table<T> {
    /// Rows in order.
    pub rows: Vec<T>,
    /// Number of all rows.
    pub all: usize,
    /// Number of omitted rows.
    pub left_out: usize,
}

impl<T> Table<T> {
    /// A table of these rows. Where there are too many, those that matter stay, and of the others the last ones.
    pub fn new(rows: Vec<T>, matters: impl Fn(&T) -> bool) -> Self {
        let all = rows.len();
        let mut places: Vec<usize> = (0..all).collect();
        places.sort_by_key(|place| (!matters(&rows[*place]), Reverse(*place)));
        places.truncate(ROWS_MAX);
        let kept: BTreeSet<usize> = places.into_iter().collect();
        let rows = rows.into_iter().enumerate().filter(|(place, _)| kept.contains(place)).map(|(_, row)| row).collect();
        Self { rows, all, left_out: all - kept.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_stays_and_so_does_the_order() {
        let table = Table::new((0..1000).collect(), |row| *row == 3 || *row == 7);
        assert_eq!((table.rows.len(), table.all, table.left_out), (ROWS_MAX, 1000, 600));
        assert_eq!((&table.rows[..3], table.rows.last()), (&[3, 7, 602][..], Some(&999)));
        let short = Table::new(vec![2, 1], |_| false);
        assert_eq!((short.rows, short.left_out), (vec![2, 1], 0));
    }
}
