//! Shards of a suite, which several machines run: each machine computes the same split from the same files.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::manifest::Durations;

/// Maximum number of shards that a suite is split into.
const SHARDS_MAX: u32 = 1000;

/// Shard of a suite, such as `2/4`: one of the parts that run on different machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Number of this shard, from 1.
    pub number: u32,
    /// Number of shards into which the suite is split.
    pub of: u32,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) && of <= SHARDS_MAX => Ok(Self { number, of }),
            _ => Err(format!("write K/N, such as 2/3 for the second of three shards, with N at most {SHARDS_MAX}")),
        }
    }
}

/// Returns the number of each case's shard, from 1; see [`Plan::keep_shard`](super::Plan::keep_shard).
pub(super) fn split<'a>(suite: &'a [String], shards: u32, durations: &Durations) -> BTreeMap<&'a str, u32> {
    let mut cases: Vec<(f64, &str)> = suite.iter().map(|case| (durations.seconds(case), case.as_str())).collect();
    cases.sort_by(|(one, first), (other, second)| other.total_cmp(one).then_with(|| first.cmp(second)));
    let mut loads = vec![(0.0, 0); shards as usize];
    let mut split = BTreeMap::new();
    for (seconds, case) in cases {
        let least = |(one, other): (&(f64, u32), &(f64, u32))| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1));
        let lightest = (0..loads.len()).min_by(|one, other| least((&loads[*one], &loads[*other]))).unwrap_or(0);
        loads[lightest].0 += seconds;
        loads[lightest].1 += 1;
        split.insert(case, u32::try_from(lightest).unwrap_or(u32::MAX) + 1);
    }
    split
}

#[cfg(test)]
mod tests {
    use super::super::cases::tests::project;
    use super::*;
    use crate::plan::{Order, Plan};

    fn durations(seconds: &[(&str, f64)]) -> Durations {
        Durations::from_seconds(seconds.iter().map(|(case, seconds)| ((*case).to_owned(), *seconds)).collect())
    }

    fn shards(of: u32, order: Order, durations: &Durations) -> Vec<Vec<String>> {
        let shard = |number| {
            let mut plan = Plan::make(&project(), &[], order).unwrap();
            plan.keep_shard(Shard { number, of }, durations).unwrap();
            plan.cases.iter().map(|case| case.id.rsplit('/').next().unwrap().to_owned()).collect()
        };
        (1..=of).map(shard).collect()
    }

    #[test]
    fn the_longest_cases_are_dealt_out_first() {
        let known = durations(&[
            ("data_pipeline/data_ingestion:small", 2.0),
            ("data_pipeline/data_ingestion:large", 9.0),
            ("data_pipeline/data_quality:default", 4.0),
            ("error_handling/data_recovery:default", 5.0),
        ]);
        let split = shards(2, Order::ONCE, &known);
        assert_eq!(split[0], ["data_ingestion:small", "data_ingestion:large"]);
        assert_eq!(split[1], ["data_quality:default", "data_recovery:default"]);
    }

    #[test]
    fn what_is_not_recorded_takes_as_long_as_one_in_the_middle() {
        let known = durations(&[
            ("data_pipeline/data_ingestion:small", 1.0),
            ("data_pipeline/data_ingestion:large", 9.0),
            ("data_pipeline/data_quality:default", 4.0),
        ]);
        // The last one counts as 4: 9 against 4 + 4 + 1.
        assert_eq!(shards(2, Order::ONCE, &known)[0], ["data_ingestion:large"]);
        assert_eq!(shards(4, Order::ONCE, &durations(&[])).iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 1]);
    }

    #[test]
    fn each_case_is_in_one_shard_however_they_are_shuffled() {
        let known = durations(&[("data_pipeline/data_ingestion:large", 3.0)]);
        let sorted = |seed| {
            let mut split = shards(3, Order { repeat: 2, shuffle_seed: seed }, &known);
            split.iter_mut().for_each(|shard| shard.sort());
            split
        };
        let split = sorted(None);
        assert_eq!(split, sorted(Some(1)));
        let mut all: Vec<String> = split.concat();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn an_empty_shard_is_refused() {
        let mut plan = Plan::make(&project(), &["data_recovery".into()], Order::ONCE).unwrap();
        let error = plan.keep_shard(Shard { number: 2, of: 2 }, &durations(&[])).unwrap_err().to_string();
        assert!(error.contains("--shard 2/2: more shards than cases (1)"), "{error}");
    }

    #[test]
    fn a_shard_is_written_k_of_n() {
        assert_eq!("2/3".parse(), Ok(Shard { number: 2, of: 3 }));
        for bad in ["", "2", "0/3", "4/3", "1/0", "a/b", "1/2/3", "-1/2", "1/1001"] {
            assert!(bad.parse::<Shard>().unwrap_err().starts_with("write K/N"), "{bad}");
        }
    }
}
