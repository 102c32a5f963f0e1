//! `[operations.NAME]` in a `scenario.toml`: what is asked of a measured operation when it is compared.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::range::{Within, WorsePercent};

/// Rule of scenario.toml for one operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OperationRule {
    /// The smallest change that matters, in percent.
    pub worse_percent: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OperationTable {
    /// The smallest change that matters, in percent.
    worse_percent: Within<WorsePercent>,
}

pub(super) fn rules(tables: BTreeMap<String, OperationTable>) -> BTreeMap<String, OperationRule> {
    let one = |(name, table): (String, OperationTable)| (name, OperationRule { worse_percent: table.worse_percent.0 });
    tables.into_iter().map(one).collect()
}
