//! Expected results of the transactions, computed from the CSV file alone: no code here reads the product's output.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use common::jobs::digest;
use serde::Deserialize;

/// Key of a record: its batch and its id.
type Key = (u32, u32);

/// Expected content of the results table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Results {
    records: BTreeMap<Key, Record>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    amount_cents: i64,
    /// SHA-256 in hex digits, hashed several times: first of `batch:id:amount_cents`, then of the digest before.
    digest: String,
}

/// Number of results of one batch, and the sum of their amounts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    pub batch: u32,
    pub records: u64,
    pub amount_cents: i64,
}

impl Results {
    /// Computes the results for a file of `batch,id,amount_cents` lines.
    pub fn of(transactions: &Path, rounds: u32) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(transactions).with_context(|| format!("reading {}", transactions.display()))?;
        let mut records = BTreeMap::new();
        for (line, row) in (1..).zip(text.lines()).skip(1) {
            let (key, amount_cents, rest) =
                parsed(row).with_context(|| format!("parsing {}:{line}: {row:?}", transactions.display()))?;
            anyhow::ensure!(rest.is_empty(), "{}:{line}: more than three fields", transactions.display());
            let record = Record { amount_cents, digest: digest(key.0.into(), key.1.into(), amount_cents, rounds) };
            anyhow::ensure!(
                records.insert(key, record).is_none(),
                "{}:{line}: this record comes a second time",
                transactions.display()
            );
        }
        Ok(Self { records })
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns the sum of each batch, sorted by batch.
    #[must_use]
    pub fn sums(&self) -> Vec<Sum> {
        let mut sums: BTreeMap<u32, Sum> = BTreeMap::new();
        for (&(batch, _), record) in &self.records {
            let sum = sums.entry(batch).or_insert(Sum { batch, records: 0, amount_cents: 0 });
            sum.records += 1;
            sum.amount_cents += record.amount_cents;
        }
        sums.into_values().collect()
    }

    /// Lists differences between a dump of the table, lines of `batch,id,amount_cents,digest`, and these results: for each kind of
    /// difference the number of rows and an example.
    pub fn differences(&self, dump: &str) -> anyhow::Result<Vec<String>> {
        let mut missing = self.records.clone();
        let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for row in dump.lines() {
            let (key, amount_cents, digest) = parsed(row).with_context(|| format!("parsing the result {row:?}"))?;
            let kind = match (self.records.get(&key), missing.remove(&key)) {
                (None, _) => "foreign",
                (Some(_), None) => "there twice",
                (Some(expected), Some(_)) if expected.amount_cents != amount_cents => "with another amount",
                (Some(expected), Some(_)) if expected.digest != digest => "with another digest",
                (Some(_), Some(_)) => continue,
            };
            found.entry(kind).or_default().push(row.to_owned());
        }
        let missing: Vec<String> = missing.keys().map(|(batch, id)| format!("{batch},{id}")).collect();
        found.insert("missing", missing);
        let described = |(kind, rows): (&str, Vec<String>)| {
            let first = rows.first()?;
            Some(format!("{} {kind}, first {first}", rows.len()))
        };
        Ok(found.into_iter().filter_map(described).collect())
    }
}

/// Parses a row into its batch and id, the amount, and the text after them.
fn parsed(row: &str) -> anyhow::Result<(Key, i64, &str)> {
    let mut fields = row.splitn(4, ',');
    let mut field = || fields.next().context("fewer than three fields");
    let (batch, id, amount_cents) = (field()?.parse()?, field()?.parse()?, field()?.parse()?);
    Ok(((batch, id), amount_cents, fields.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("data_pipeline/batch_processing/fixtures");
        Results::of(&fixtures.join("transactions.csv"), 3).unwrap()
    }

    fn dump(results: &Results) -> Vec<String> {
        let row =
            |(&(batch, id), record): (&Key, &Record)| format!("{batch},{id},{},{}", record.amount_cents, record.digest);
        results.records.iter().map(row).collect()
    }

    #[test]
    fn the_fixture_is_five_batches_of_a_thousand() {
        let sums = results().sums();
        assert_eq!(sums.iter().map(|sum| sum.batch).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(sums.iter().all(|sum| sum.records == 1000), "{sums:?}");
    }

    #[test]
    fn each_difference_is_named() {
        let results = results();
        let check = |change: &dyn Fn(&mut Vec<String>), expected: &str| {
            let mut rows = dump(&results);
            change(&mut rows);
            let differences = results.differences(&rows.join("\n")).unwrap();
            assert!(differences.len() == 1 && differences[0].starts_with(expected), "{differences:?}");
        };
        assert_eq!(results.differences(&dump(&results).join("\n")).unwrap(), Vec::<String>::new());
        check(&|rows| drop(rows.drain(..2)), "2 missing, first 1,1");
        check(&|rows| rows.push(rows[0].clone()), "1 there twice, first 1,1,");
        check(&|rows| rows.push("6,1,5,00".into()), "1 foreign, first 6,1,5,00");
        check(&|rows| rows[0].push('0'), "1 with another digest, first 1,1,");
        check(&|rows| rows[0] = "1,1,0,00".into(), "1 with another amount, first 1,1,0,00");
        assert!(results.differences("1,2").is_err());
    }
}
