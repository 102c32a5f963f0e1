//! Input of the pipeline: three CSV files, and `expected.json`, in which `generate.py` describes them.
//!
//! No field of the files holds a comma, a quote or a line break (`generate.py` asserts it), so they can be split at commas.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::expectation::Outcome;

/// Difference between the ids of one copy of the rows and the next. The fixture's ids are below it.
pub const IDS_PER_COPY: u64 = 1_000_000;

/// Texts of the CSV files, each with its header line.
#[derive(Debug, Clone)]
pub struct Source {
    /// Customers, with the columns `id,name,region,since`.
    pub customers: String,
    /// Orders, with the columns `id,customer,placed,category,currency,quantity,unit_price`.
    pub orders: String,
    /// Exchange rates, with the columns `currency,rate_micros`: millionths of a euro for one unit.
    pub rates: String,
}

impl Source {
    /// Reads the files of a scenario's `fixtures` folder.
    pub fn read(fixtures: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = fixtures.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        Ok(Self { customers: read("customers.csv")?, orders: read("orders.csv")?, rates: read("rates.csv")? })
    }

    /// Returns the same rows `copies` times, with the ids of each copy shifted, so that all ids are different.
    ///
    /// # Errors
    /// When an id is not a number below [`IDS_PER_COPY`].
    pub fn multiplied(&self, copies: u64) -> anyhow::Result<Self> {
        Ok(Self {
            customers: multiplied("customers.csv", &self.customers, &[0], copies)?,
            orders: multiplied("orders.csv", &self.orders, &[0, 1], copies)?,
            rates: self.rates.clone(),
        })
    }

    /// Returns a source that has only the first customers and orders.
    #[must_use]
    pub fn first(&self, customers: usize, orders: usize) -> Self {
        let first = |text: &str, rows: usize| text.split_inclusive('\n').take(1 + rows).collect();
        Self {
            customers: first(&self.customers, customers),
            orders: first(&self.orders, orders),
            rates: self.rates.clone(),
        }
    }

    fn files(&self) -> [(&'static str, &str); 3] {
        [("customers.csv", &self.customers), ("orders.csv", &self.orders), ("rates.csv", &self.rates)]
    }
}

/// Returns the data rows of a CSV text with their line numbers; the first data row is line 2.
pub fn rows<'text, const N: usize>(file: &str, text: &'text str) -> anyhow::Result<Vec<(u64, [&'text str; N])>> {
    let mut found = Vec::new();
    for (line, row) in (1..).zip(text.lines()).skip(1) {
        let fields: Vec<&str> = row.split(',').collect();
        let count = fields.len();
        let fields: [&str; N] =
            fields.try_into().map_err(|_| anyhow::anyhow!("{file}:{line}: {count} fields instead of {N}: {row}"))?;
        found.push((line, fields));
    }
    Ok(found)
}

fn multiplied(file: &str, text: &str, id_columns: &[usize], copies: u64) -> anyhow::Result<String> {
    let mut result = String::with_capacity(text.len() * (usize::try_from(copies)? + 1));
    result.push_str(text.lines().next().unwrap_or_default());
    result.push('\n');
    for copy in 0..copies {
        for (line, row) in (1..).zip(text.lines()).skip(1) {
            for (column, field) in row.split(',').enumerate() {
                if column > 0 {
                    result.push(',');
                }
                if id_columns.contains(&column) {
                    let id: u64 =
                        field.parse().with_context(|| format!("{file}:{line}: the id {field:?} is not a number"))?;
                    ensure!(
                        id < IDS_PER_COPY,
                        "{file}:{line}: the id {id} is not below {IDS_PER_COPY}, so ids of the copies would be equal"
                    );
                    result.push_str(&(id + copy * IDS_PER_COPY).to_string());
                } else {
                    result.push_str(field);
                }
            }
            result.push('\n');
        }
    }
    Ok(result)
}

/// Content of `expected.json`: the generator's description of the files that it wrote.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    version: u32,
    files: BTreeMap<String, FileDigests>,
    /// Expected outcome of one copy of the rows.
    pub outcome: Outcome,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileDigests {
    sha256: String,
    lines_per_block: usize,
    /// First 16 hex digits of the SHA-256 of each block.
    blocks: Vec<String>,
}

impl Expected {
    /// Reads `expected.json` of a scenario's `fixtures` folder.
    pub fn read(fixtures: &Path) -> anyhow::Result<Self> {
        let path = fixtures.join("expected.json");
        let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let expected: Self = serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
        ensure!(expected.version == 1, "{}: version {} is not known, only 1", path.display(), expected.version);
        Ok(expected)
    }

    /// Returns the names of files that differ from those that the generator wrote, each with the lines of its first difference.
    #[must_use]
    pub fn changed(&self, source: &Source) -> Vec<String> {
        let change = |(name, text): (&str, &str)| match self.files.get(name) {
            Some(digests) => digests.change(name, text),
            None => Some(format!("{name} (expected.json does not know it)")),
        };
        source.files().into_iter().filter_map(change).collect()
    }
}

impl FileDigests {
    fn change(&self, name: &str, text: &str) -> Option<String> {
        if sha256_hex(text) == self.sha256 {
            return None;
        }
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let found: Vec<String> =
            lines.chunks(self.lines_per_block).map(|block| sha256_hex(&block.concat())[..16].to_owned()).collect();
        let same = found.iter().zip(&self.blocks).take_while(|(found, expected)| found == expected).count();
        let first = same * self.lines_per_block + 1;
        let last = (first + self.lines_per_block - 1).min(lines.len().max(first));
        Some(format!("{name} (first in lines {first} to {last})"))
    }
}

fn sha256_hex(text: &str) -> String {
    hex(&Sha256::digest(text))
}

/// Returns bytes as lower-case hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixtures() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("data_pipeline/data_ingestion/fixtures")
    }

    #[test]
    fn the_committed_files_are_the_generators() {
        let (source, expected) = (Source::read(&fixtures()).unwrap(), Expected::read(&fixtures()).unwrap());
        assert_eq!(expected.changed(&source), Vec::<String>::new());
    }

    #[test]
    fn a_changed_byte_is_located() {
        let (mut source, expected) = (Source::read(&fixtures()).unwrap(), Expected::read(&fixtures()).unwrap());
        let at = source.orders.lines().take(1234).map(|line| line.len() + 1).sum::<usize>();
        let digit = if source.orders.as_bytes()[at] == b'1' { "2" } else { "1" };
        source.orders.replace_range(at..=at, digit);
        source.rates.pop();
        assert_eq!(
            expected.changed(&source),
            ["orders.csv (first in lines 1001 to 1500)", "rates.csv (first in lines 1 to 5)"]
        );
        source.orders.push_str("1,1,2024-01-01,toys,EUR,1,1.00\n");
        source.customers.clear();
        assert_eq!(expected.changed(&source)[0], "customers.csv (first in lines 1 to 1)");
    }

    #[test]
    fn copies_shift_every_id() {
        let header = "id,customer,placed,category,currency,quantity,unit_price";
        let source = Source {
            customers: "id,name,region,since\n7,Li,east,2020-01-01\n".into(),
            orders: format!("{header}\n9,7,2024-01-01,toys,EUR,1,1.00\n"),
            rates: "currency,rate_micros\nEUR,1000000\n".into(),
        };
        let twice = source.multiplied(2).unwrap();
        assert_eq!(twice.customers, "id,name,region,since\n7,Li,east,2020-01-01\n1000007,Li,east,2020-01-01\n");
        let orders = "9,7,2024-01-01,toys,EUR,1,1.00\n1000009,1000007,2024-01-01,toys,EUR,1,1.00\n";
        assert_eq!(twice.orders, format!("{header}\n{orders}"));
        assert_eq!(source.multiplied(1).unwrap().orders, source.orders);
        let wrong = Source { customers: source.customers.replace('7', "x"), ..source };
        assert!(wrong.multiplied(1).unwrap_err().to_string().starts_with("customers.csv:2: the id \"x\""));
    }

    #[test]
    fn a_row_with_a_field_too_many_is_an_error() {
        let error = rows::<2>("rates.csv", "currency,rate_micros\nEUR,1,2\n").unwrap_err().to_string();
        assert_eq!(error, "rates.csv:2: 3 fields instead of 2: EUR,1,2");
    }
}
