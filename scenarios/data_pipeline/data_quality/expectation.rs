//! Expected findings in the deliveries, computed from their files alone: no code here reads the product's output.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, ensure};
use common::calendar::is_date;
use serde::Deserialize;

use crate::csv;

const COLUMNS: [&str; 6] = ["sku", "name", "size", "price", "since", "stock"];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Bad row or bad file that the quality gate has to report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Name of the file in the folder of deliveries.
    pub file: String,
    /// Line of the file, from 1; for a file that ends too early, its last line.
    pub line: usize,
    /// Name of the bad column, where a single one is bad.
    pub field: Option<String>,
    /// Reason in one word, such as `malformed`.
    pub reason: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, field, reason } = self;
        write!(f, "{file}:{line}: {}{reason}", field.as_ref().map(|field| format!("{field} ")).unwrap_or_default())
    }
}

/// Delivery with its numbers of rows and its score.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// Name of the manifest in the folder of deliveries. The file of articles has the same name with another ending.
    pub manifest: String,
    /// Number of rows that the manifest announces; 0 where the manifest cannot be read.
    pub announced: u64,
    /// Number of good rows.
    pub accepted: u64,
    /// Share of accepted rows among the announced ones, in ten thousandths, rounded down.
    pub score: u64,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { manifest, announced, accepted, score } = self;
        write!(f, "{manifest}: {accepted} of {announced} rows, score {score}")
    }
}

/// Content of `expected.json`: the defects that the generator planted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    version: u32,
    pub deliveries: Vec<Delivery>,
    pub findings: Vec<Finding>,
}

impl Expected {
    /// Reads `expected.json` from a scenario's `fixtures` folder.
    pub fn read(fixtures: &Path) -> anyhow::Result<Self> {
        let path = fixtures.join("expected.json");
        let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let expected: Self = serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
        ensure!(expected.version == 1, "{}: version {} is not known, only 1", path.display(), expected.version);
        Ok(expected)
    }
}

impl Expected {
    /// Returns the expectation for one delivery, whose result does not depend on the other deliveries.
    #[must_use]
    pub fn only(mut self, manifest: &str) -> Self {
        let stem = manifest.rsplit_once('.').map_or(manifest, |(stem, _)| stem);
        self.deliveries.retain(|delivery| delivery.manifest == manifest);
        self.findings.retain(|finding| finding.file == manifest || finding.file == format!("{stem}.csv"));
        self
    }
}

/// Expected findings, scores and loaded rows of the quality gate.
#[derive(Debug, Default)]
pub struct Outcome {
    pub deliveries: Vec<Delivery>,
    pub findings: Vec<Finding>,
    /// Good rows as CSV, with all fields in quotes.
    pub articles: Vec<String>,
    /// Names of all files of the deliveries.
    pub files: Vec<String>,
}

impl Outcome {
    /// Computes the outcome of the files in this folder. `planted` names the unreadable manifests and the numbers of rows that the others
    /// announce, since no code here reads manifests.
    pub fn of(incoming: &Path, planted: &Expected) -> anyhow::Result<Self> {
        let mut outcome = Self::default();
        let mut seen = BTreeSet::new();
        for Delivery { manifest, announced, .. } in &planted.deliveries {
            let (stem, _) =
                manifest.rsplit_once('.').with_context(|| format!("the manifest {manifest:?} has no file ending"))?;
            let file = format!("{stem}.csv");
            let path = incoming.join(&file);
            let content = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let before = outcome.articles.len();
            let broken = planted.findings.iter().filter(|finding| finding.file == *manifest);
            outcome.findings.extend(broken.cloned());
            if *announced > 0 {
                outcome.add(&file, &content, *announced, &mut seen);
            }
            let accepted = (outcome.articles.len() - before) as u64;
            let score = (accepted * 10_000).checked_div(*announced).unwrap_or(0);
            outcome.deliveries.push(Delivery { manifest: manifest.clone(), announced: *announced, accepted, score });
            outcome.files.extend([manifest.clone(), file]);
        }
        Ok(outcome)
    }

    /// Adds the rows of one file. `seen` holds the articles accepted so far.
    fn add(&mut self, file: &str, content: &[u8], announced: u64, seen: &mut BTreeSet<String>) {
        let mut find = |line: usize, field: Option<&str>, reason: &str| {
            let (file, field, reason) = (file.to_owned(), field.map(str::to_owned), reason.to_owned());
            self.findings.push(Finding { file, line, field, reason });
        };
        let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
        let is_ended = content.ends_with(b"\n");
        let lines: Vec<&[u8]> = content.strip_suffix(b"\n").unwrap_or(content).split(|byte| *byte == b'\n').collect();
        let lines: Vec<&[u8]> = lines.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
        if lines[0] != COLUMNS.join(",").as_bytes() {
            return find(1, None, "header");
        }
        let is_short = ((lines.len() - 1) as u64) < announced;
        for (number, line) in (1..).zip(&lines).skip(1) {
            if is_short && !is_ended && number == lines.len() {
                find(number, None, "truncated");
                continue;
            }
            match article(line) {
                Ok([sku, ..]) if seen.contains(&sku) => find(number, Some("sku"), "duplicate"),
                Ok(fields) => {
                    self.articles.push(csv::line(&fields));
                    seen.insert(fields.into_iter().next().unwrap_or_default());
                }
                Err((field, reason)) => find(number, field, reason),
            }
        }
        if is_short {
            find(lines.len(), None, "rows_missing");
        }
    }
}

/// Returns the fields of a good row; for a bad row the bad field and the reason.
fn article(line: &[u8]) -> Result<[String; 6], (Option<&'static str>, &'static str)> {
    let text = std::str::from_utf8(line).map_err(|_| (None, "encoding"))?;
    if text.chars().any(|c| c.is_ascii_control()) {
        return Err((None, "malformed"));
    }
    let fields = csv::fields(text).ok_or((None, "malformed"))?;
    let fields: [String; 6] = fields.try_into().map_err(|_| (None, "field_count"))?;
    for (column, field) in COLUMNS.iter().zip(&fields) {
        if *column != "size" && field.trim().is_empty() {
            return Err((Some(column), "missing"));
        }
    }
    let [sku, _, _, price, since, stock] = &fields;
    let price_cents = price.split_once('.').filter(|(_, cents)| cents.len() == 2).map(|(units, cents)| {
        let is_number = is_digits(units.strip_prefix('-').unwrap_or(units)) && is_digits(cents);
        is_number.then(|| format!("{units}{cents}"))
    });
    let price_cents = price_cents.flatten().ok_or((Some("price"), "type"));
    let is_integer = is_digits(stock.strip_prefix('-').unwrap_or(stock));
    match () {
        () if sku.len() != 5 || !is_digits(sku) => return Err((Some("sku"), "type")),
        () if price_cents.is_err() => return Err((Some("price"), "type")),
        () if !is_date(since) => return Err((Some("since"), "type")),
        () if !is_integer => return Err((Some("stock"), "type")),
        () => {}
    }
    // What is too long for a number is out of range.
    let price_cents: i64 = price_cents?.parse().unwrap_or(i64::MAX);
    let stock: i64 = stock.parse().unwrap_or(i64::MAX);
    match () {
        () if !(1..=999_999).contains(&price_cents) => Err((Some("price"), "range")),
        () if !("2000-01-01"..="2025-12-31").contains(&since.as_str()) => Err((Some("since"), "range")),
        () if !(0..=100_000).contains(&stock) => Err((Some("stock"), "range")),
        () => Ok(fields),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use common::differences::differences;

    use super::*;

    fn outcome() -> (Expected, Outcome) {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("data_pipeline/data_quality/fixtures");
        let planted = Expected::read(&fixtures).unwrap();
        let outcome = Outcome::of(&fixtures.join("incoming"), &planted).unwrap();
        (planted, outcome)
    }

    #[test]
    fn agrees_with_the_generator() {
        let (planted, outcome) = outcome();
        assert_eq!(differences(&planted.findings, &outcome.findings), Vec::<String>::new());
        assert_eq!(differences(&planted.deliveries, &outcome.deliveries), Vec::<String>::new());
        let accepted: u64 = planted.deliveries.iter().map(|delivery| delivery.accepted).sum();
        assert_eq!(outcome.articles.len() as u64, accepted);
    }

    #[test]
    fn good_rows_stay_as_they_are() {
        let row = r#"00042,"Hinge, 3""",007,0.01,2024-02-29,007"#;
        let expected = ["00042", "Hinge, 3\"", "007", "0.01", "2024-02-29", "007"];
        assert_eq!(article(row.as_bytes()).unwrap(), expected.map(str::to_owned));
        assert_eq!(article(b"00042,x,,9999.99,2000-01-01,0").unwrap()[2], "");
        assert_eq!(article("00042,x,,1.00,2000-01-01,٣".as_bytes()).unwrap_err(), (Some("stock"), "type"));
    }
}
