//! Expected books on db: each transfer computed from its number alone, and the balances from the transfers.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde::Deserialize;

/// Number of transfers that the program sends together.
pub const BATCH: u64 = 20;
const ACCOUNTS: u64 = 10;
/// Maximum number of differences that are listed.
const SHOWN: usize = 5;

/// Row of the table `transfers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Transfer {
    pub number: u64,
    pub source: u64,
    pub target: u64,
    pub amount_cents: i64,
}

/// Row of the table `accounts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Balance {
    pub account: u64,
    pub balance_cents: i64,
}

/// Transfers and balances on db, sorted by number and account.
#[derive(Debug)]
pub struct Booked {
    pub transfers: Vec<Transfer>,
    pub balances: Vec<Balance>,
}

impl Transfer {
    /// Returns the only transfer that may have this number.
    fn of(number: u64) -> Self {
        let source = number % ACCOUNTS;
        let target = (source + 1 + number / ACCOUNTS % (ACCOUNTS - 1)) % ACCOUNTS;
        Self { number, source, target, amount_cents: (number * 7919 % 10_007) as i64 + 1 }
    }
}

/// Parses the numbers of transfers in `acknowledged.log`.
pub fn numbers(log: &[u8]) -> e2e::Result<Vec<u64>> {
    let text = std::str::from_utf8(log).context("reading acknowledged.log")?;
    text.lines().map(|line| line.parse().with_context(|| format!("parsing {line:?} of acknowledged.log"))).collect()
}

/// Returns acknowledged transfers that are missing or different on db.
pub fn lost(acknowledged: &[u64], transfers: &[Transfer]) -> Vec<String> {
    let booked: BTreeMap<u64, &Transfer> = transfers.iter().map(|transfer| (transfer.number, transfer)).collect();
    let fault = |number: &u64| match booked.get(number) {
        None => Some(format!("{number} was acknowledged and is not on db")),
        Some(found) if **found != Transfer::of(*number) => Some(format!("{number} is {found:?} on db")),
        Some(_) => None,
    };
    acknowledged.iter().filter_map(fault).take(SHOWN).collect()
}

/// Returns transfers on db that are duplicated, or that were neither acknowledged nor belong to the batch after the acknowledged ones.
pub fn unexpected(acknowledged: &[u64], transfers: &[Transfer]) -> Vec<String> {
    let end = acknowledged.last().unwrap_or(&0) + BATCH;
    let mut seen = BTreeSet::new();
    let fault = |transfer: &Transfer| {
        let number = transfer.number;
        if !seen.insert(number) {
            Some(format!("{number} is on db twice"))
        } else if !(1..=end).contains(&number) {
            Some(format!("{number} is on db and was never sent"))
        } else if *transfer != Transfer::of(number) {
            Some(format!("{transfer:?} was never sent"))
        } else {
            None
        }
    };
    transfers.iter().filter_map(fault).take(SHOWN).collect()
}

/// Returns the transfers up to this number, and the balances after them.
pub fn after(last: u64) -> (Vec<Transfer>, Vec<Balance>) {
    let transfers: Vec<Transfer> = (1..=last).map(Transfer::of).collect();
    let balances = balances(&transfers);
    (transfers, balances)
}

/// Returns the balances after these transfers, each done once.
pub fn balances(transfers: &[Transfer]) -> Vec<Balance> {
    let mut cents: BTreeMap<u64, i64> = (0..ACCOUNTS).map(|account| (account, 0)).collect();
    for transfer in transfers {
        *cents.entry(transfer.source).or_default() -= transfer.amount_cents;
        *cents.entry(transfer.target).or_default() += transfer.amount_cents;
    }
    cents.into_iter().map(|(account, balance_cents)| Balance { account, balance_cents }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(numbers: impl IntoIterator<Item = u64>) -> Vec<Transfer> {
        numbers.into_iter().map(Transfer::of).collect()
    }

    #[test]
    fn an_account_never_pays_itself() {
        assert!(whole(1..1000).iter().all(|transfer| transfer.source != transfer.target && transfer.amount_cents > 0));
    }

    #[test]
    fn what_is_lost_changed_doubled_or_invented_is_named() {
        let log: Vec<u64> = (1..=40).collect();
        assert!(lost(&log, &whole(1..=40)).is_empty() && unexpected(&log, &whole(1..=60)).is_empty());
        assert_eq!(lost(&log, &whole((1..=40).filter(|n| *n != 7))), ["7 was acknowledged and is not on db"]);
        assert_eq!(unexpected(&log, &whole((1..=40).chain([9]))), ["9 is on db twice"]);
        assert_eq!(unexpected(&log, &whole((1..=40).chain([61]))), ["61 is on db and was never sent"]);
        let mut changed = whole(1..=40);
        changed[11].amount_cents += 1;
        assert!(lost(&log, &changed)[0].starts_with("12 is Transfer"), "{:?}", lost(&log, &changed));
        assert_eq!(unexpected(&log, &changed).len(), 1);
    }

    #[test]
    fn money_is_moved_and_not_made() {
        let balances = balances(&whole([1]));
        let cents = |account: usize| balances[account].balance_cents;
        assert_eq!((cents(0), cents(1), cents(2)), (0, -7920, 7920));
        assert_eq!(balances.iter().map(|balance| balance.balance_cents).sum::<i64>(), 0);
    }
}
