//! Expected rows on db, each computed from the number of its transaction alone, as PostgreSQL shows it.

use std::collections::BTreeSet;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

/// Number of transactions that the program sends together, as in `fixtures/ledger.json`.
pub const BATCH: u64 = 20;
/// Number of transactions at the start that register customers; all others are payments.
pub const CUSTOMERS: u64 = 60;
/// Maximum number of differences that are listed.
const SHOWN: usize = 5;

/// Returns the row of a transaction in the form of its table.
pub fn row(number: u64) -> String {
    if number <= CUSTOMERS {
        format!("({number},customer-{})", word(number))
    } else {
        format!("({number},{},{},{})", number % CUSTOMERS + 1, number * 7919 % 10_007 + 1, memo(number))
    }
}

/// Returns the text of a payment, which no other row in the table's file contains.
pub fn memo(number: u64) -> String {
    format!("memo-{}", word(number))
}

fn word(number: u64) -> String {
    let digest = Sha256::digest(number.to_string());
    digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the expected rows up to this transaction that are missing or different.
pub fn missing(rows: &[String], last: u64) -> Vec<String> {
    let found: BTreeSet<&str> = rows.iter().map(String::as_str).collect();
    (1..=last).map(row).filter(|row| !found.contains(row.as_str())).take(SHOWN).collect()
}

/// Returns rows that are duplicated, or that no transaction up to this one has made.
pub fn unexpected(rows: &[String], last: u64) -> Vec<String> {
    unexpected_between(rows, 1, last)
}

/// Returns rows that are duplicated, or that no transaction from `first` to `last` has made.
pub fn unexpected_between(rows: &[String], first: u64, last: u64) -> Vec<String> {
    let mut expected: BTreeSet<String> = (first..=last).map(row).collect();
    rows.iter().filter(|row| !expected.remove(*row)).take(SHOWN).cloned().collect()
}

/// Returns the offset of the last byte of a piece of a file, where a flipped bit changes the piece's last character.
pub fn position(content: &[u8], piece: &[u8]) -> e2e::Result<u64> {
    let start = content.windows(piece.len()).position(|window| window == piece);
    let start = start.with_context(|| format!("{} is not in the file", String::from_utf8_lossy(piece)))?;
    Ok((start + piece.len() - 1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_as_they_are_shown() {
        assert_eq!(row(3), "(3,customer-4e07408562bedb8b60ce05c1)");
        assert_eq!(row(61), "(61,2,2724,memo-d029fa3a95e174a19934857f)");
    }

    #[test]
    fn what_is_missing_changed_doubled_or_invented_is_named() {
        let mut rows: Vec<String> = (1..=80).map(row).collect();
        assert!(missing(&rows, 80).is_empty() && unexpected(&rows, 80).is_empty());
        assert_eq!(unexpected(&rows, 79), [row(80)]);
        assert_eq!(missing(&rows, 81), [row(81)]);
        rows.push(row(7));
        assert_eq!(unexpected(&rows, 80), [row(7)]);
        rows[70] = rows[70].replace("memo-", "memo+");
        assert_eq!((missing(&rows, 80), unexpected(&rows, 80).len()), (vec![row(71)], 2));
    }

    #[test]
    fn the_last_byte_of_a_piece() {
        assert_eq!(position(b"{\"batch\": 20}", b"20").unwrap(), 11);
        assert!(position(b"abc", b"x").is_err());
    }
}
