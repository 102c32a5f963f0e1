//! Expected result of the pipeline, computed from the CSV files alone: no code here reads the product's output or the database.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Debug;

use anyhow::Context as _;
use common::calendar::{digits, is_date};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::fixture::{Source, hex, rows};

const REGIONS: [&str; 5] = ["north", "east", "south", "west", "islands"];
const CATEGORIES: [&str; 6] = ["books", "garden", "kitchen", "music", "toys", "travel"];

/// Result of the whole pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Totals over all accepted orders.
    pub summary: Summary,
    /// Totals by region and category, sorted by both.
    pub groups: Vec<Group>,
    /// Refused rows: customers first, then orders, each in the order of the file.
    pub rejected: Vec<Rejected>,
}

/// Totals over all accepted orders.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Summary {
    pub customers_read: u64,
    pub customers_accepted: u64,
    pub orders_read: u64,
    pub orders_accepted: u64,
    pub units: u64,
    pub revenue_cents: u64,
    /// SHA-256 over a line for each accepted order, by id:
    /// `id|customer|name|region|since|placed|category|units|revenue_cents`.
    pub checksum: String,
}

/// Totals of one region and category.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub region: String,
    pub category: String,
    pub orders: u64,
    /// Number of different customers.
    pub customers: u64,
    pub units: u64,
    pub revenue_cents: u64,
}

/// Row that was refused, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejected {
    /// Name of the file: `customers.csv` or `orders.csv`.
    pub file: String,
    /// Line of the row in that file; the header is line 1.
    pub line: u64,
    /// Id of the row, which is its first field.
    pub id: u64,
    /// Reason in one word.
    pub reason: String,
}

struct Customer<'text> {
    name: &'text str,
    region: &'text str,
    since: &'text str,
}

#[derive(Default)]
struct Totals {
    orders: u64,
    units: u64,
    revenue_cents: u64,
    customers: BTreeSet<u64>,
}

impl Outcome {
    /// Returns the number of all rows, accepted and refused.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.summary.customers_read + self.summary.orders_read
    }

    /// Computes the result of the pipeline for these files.
    ///
    /// # Errors
    /// When a row has the wrong number of fields, or an id or a rate is not a number: no broken row of the fixtures is of that kind.
    pub fn of(source: &Source) -> anyhow::Result<Self> {
        let mut rates = HashMap::new();
        for (line, [currency, rate_micros]) in rows("rates.csv", &source.rates)? {
            rates.insert(currency, number("rates.csv", line, rate_micros)?);
        }
        let mut rejected = Vec::new();
        let mut refuse = |file: &str, line, id, reason: &str| {
            rejected.push(Rejected { file: file.into(), line, id, reason: reason.into() });
        };

        let customer_rows = rows("customers.csv", &source.customers)?;
        let mut customers: HashMap<u64, Option<Customer<'_>>> = HashMap::new();
        for (line, [id, name, region, since]) in &customer_rows {
            let id = number("customers.csv", *line, id)?;
            let fault = match () {
                () if customers.contains_key(&id) => Some("id_duplicate"),
                () if name.trim().is_empty() => Some("name_missing"),
                () if !REGIONS.contains(region) => Some("region_unknown"),
                () if !is_date(since) => Some("date_impossible"),
                () => None,
            };
            if let Some(reason) = fault {
                refuse("customers.csv", *line, id, reason);
            }
            customers.entry(id).or_insert_with(|| fault.is_none().then_some(Customer { name, region, since }));
        }

        let order_rows = rows("orders.csv", &source.orders)?;
        let mut seen = HashSet::new();
        let mut totals: BTreeMap<(&str, &str), Totals> = BTreeMap::new();
        let mut accepted: BTreeMap<u64, String> = BTreeMap::new();
        for (line, [id, customer_id, placed, category, currency, quantity, unit_price]) in &order_rows {
            let (id, customer_id) = (number("orders.csv", *line, id)?, number("orders.csv", *line, customer_id)?);
            let customer = customers.get(&customer_id);
            let (rate_micros, units, price_cents) = (rates.get(currency), units(quantity), cents(unit_price));
            let fault = match (customer, rate_micros, units, price_cents) {
                _ if !seen.insert(id) => "id_duplicate",
                (None, ..) => "customer_unknown",
                (Some(None), ..) => "customer_rejected",
                _ if !is_date(placed) => "date_impossible",
                _ if !CATEGORIES.contains(category) => "category_unknown",
                (_, None, ..) => "currency_unknown",
                (_, _, None, _) => "quantity_invalid",
                (_, _, _, None) => "price_invalid",
                (Some(Some(Customer { name, region, since })), Some(rate_micros), Some(units), Some(price_cents)) => {
                    let revenue_cents = (units * price_cents * rate_micros + 500_000) / 1_000_000;
                    let group = totals.entry((region, category)).or_default();
                    group.orders += 1;
                    group.units += units;
                    group.revenue_cents += revenue_cents;
                    group.customers.insert(customer_id);
                    let order = format!("{id}|{customer_id}|{name}|{region}|{since}|{placed}|{category}");
                    accepted.insert(id, format!("{order}|{units}|{revenue_cents}\n"));
                    continue;
                }
            };
            refuse("orders.csv", *line, id, fault);
        }

        let mut checksum = Sha256::new();
        accepted.values().for_each(|line| checksum.update(line));
        Ok(Self {
            summary: Summary {
                customers_read: customer_rows.len() as u64,
                customers_accepted: customers.values().flatten().count() as u64,
                orders_read: order_rows.len() as u64,
                orders_accepted: accepted.len() as u64,
                units: totals.values().map(|group| group.units).sum(),
                revenue_cents: totals.values().map(|group| group.revenue_cents).sum(),
                checksum: hex(&checksum.finalize()),
            },
            groups: totals.into_iter().map(|((region, category), group)| group.named(region, category)).collect(),
            rejected,
        })
    }

    /// Lists the parts in which another outcome differs from this one, with the first difference of each.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let parts = [
            first_difference("refused row", &self.rejected, &other.rejected),
            first_difference("group", &self.groups, &other.groups),
            first_difference("summary", &self.summary.fields(), &other.summary.fields()),
        ];
        parts.into_iter().flatten().collect()
    }
}

fn first_difference<T: PartialEq + Debug>(what: &str, expected: &[T], found: &[T]) -> Option<String> {
    let at = (0..expected.len().max(found.len())).find(|&at| expected.get(at) != found.get(at))?;
    let shown = |item: Option<&T>| item.map_or_else(|| "none".to_owned(), |item| format!("{item:?}"));
    Some(format!("{what}: expected {}, found {}", shown(expected.get(at)), shown(found.get(at))))
}

impl Summary {
    fn fields(&self) -> [(&'static str, String); 7] {
        [
            ("customers_read", self.customers_read.to_string()),
            ("customers_accepted", self.customers_accepted.to_string()),
            ("orders_read", self.orders_read.to_string()),
            ("orders_accepted", self.orders_accepted.to_string()),
            ("units", self.units.to_string()),
            ("revenue_cents", self.revenue_cents.to_string()),
            ("checksum", self.checksum.clone()),
        ]
    }
}

impl Totals {
    fn named(self, region: &str, category: &str) -> Group {
        Group {
            region: region.into(),
            category: category.into(),
            orders: self.orders,
            customers: self.customers.len() as u64,
            units: self.units,
            revenue_cents: self.revenue_cents,
        }
    }
}

fn number(file: &str, line: u64, text: &str) -> anyhow::Result<u64> {
    text.parse().with_context(|| format!("{file}:{line}: {text:?} is no number"))
}

/// Parses a quantity: a whole number above zero.
fn units(text: &str) -> Option<u64> {
    digits(text).filter(|units| *units > 0)
}

/// Parses a price with exactly two decimals into cents.
fn cents(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.')?;
    (fraction.len() == 2).then_some(digits(whole)? * 100 + digits(fraction)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fixture::{Expected, IDS_PER_COPY};

    fn fixtures() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("data_pipeline/data_ingestion/fixtures")
    }

    #[test]
    fn agrees_with_the_generator() {
        let (source, expected) = (Source::read(&fixtures()).unwrap(), Expected::read(&fixtures()).unwrap());
        assert_eq!(expected.outcome.differences(&Outcome::of(&source).unwrap()), Vec::<String>::new());
        assert_eq!(expected.outcome, Outcome::of(&source).unwrap());
    }

    #[test]
    fn copies_add_up() {
        let source = Source::read(&fixtures()).unwrap();
        let one = Outcome::of(&source).unwrap();
        let three = Outcome::of(&source.multiplied(3).unwrap()).unwrap();
        assert_eq!(three.summary.orders_accepted, 3 * one.summary.orders_accepted);
        assert_eq!(three.summary.revenue_cents, 3 * one.summary.revenue_cents);
        assert_eq!(three.rejected.len(), 3 * one.rejected.len());
        assert_eq!(three.groups[7].customers, 3 * one.groups[7].customers);
        let last = |outcome: &Outcome| outcome.rejected.last().cloned().unwrap();
        let shifted = Rejected {
            line: last(&one).line + 2 * one.summary.orders_read,
            id: last(&one).id + 2 * IDS_PER_COPY,
            ..last(&one)
        };
        assert_eq!(last(&three), shifted);
    }

    #[test]
    fn a_changed_digit_changes_the_outcome() {
        let source = Source::read(&fixtures()).unwrap();
        let outcome = Outcome::of(&source).unwrap();
        let mut changed = source.clone();
        let at = changed.orders.rfind('.').unwrap() - 1;
        let digit = if changed.orders.as_bytes()[at] == b'1' { "2" } else { "1" };
        changed.orders.replace_range(at..=at, digit);
        let differences = outcome.differences(&Outcome::of(&changed).unwrap());
        assert!(differences[0].starts_with("group: expected Group { region: "), "{differences:?}");
        assert!(differences[1].starts_with("summary: expected ("), "{differences:?}");
    }

    #[test]
    fn each_difference_is_named() {
        let outcome = Outcome::of(&Source::read(&fixtures()).unwrap()).unwrap();
        let check = |change: &dyn Fn(&mut Outcome), expected: &str| {
            let mut other = outcome.clone();
            change(&mut other);
            let differences = outcome.differences(&other);
            assert!(differences.len() == 1 && differences[0].starts_with(expected), "{differences:?}");
        };
        let row = "refused row: expected Rejected { file: \"customers.csv\", line: 334, id: 333,";
        check(&|it| it.rejected[0].line = 1, row);
        let last = "refused row: expected Rejected { file: \"orders.csv\", line: 18818, id: 100001,";
        check(&|it| drop(it.rejected.pop()), last);
        check(&|it| it.rejected.push(it.rejected[0].clone()), "refused row: expected none, found Rejected {");
        check(&|it| it.groups[0].units += 1, "group: expected Group { region: \"east\", category: \"books\",");
        check(&|it| drop(it.groups.pop()), "group: expected Group { region: \"west\", category: \"travel\",");
        check(&|it| it.summary.checksum.clear(), "summary: expected (\"checksum\", \"a3d3616f");
    }

    #[test]
    fn what_is_a_price_and_a_quantity() {
        let prices = ["1.00", "0.5", "-4.00", "12.5O", "7", "", ".50"];
        assert_eq!(prices.map(cents), [Some(100), None, None, None, None, None, None]);
        assert_eq!(["1", "0", "-3", "two", ""].map(units), [Some(1), None, None, None, None]);
    }
}
