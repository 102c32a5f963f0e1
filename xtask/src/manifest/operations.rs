//! `[operations.NAME]` in a `scenario.toml`: what is asked of a measured operation when it is compared.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::parse::Source;
use crate::error::Error;

/// What percentages make sense: below, noise is larger; above, nothing would ever be found.
const PERCENT: std::ops::RangeInclusive<f64> = 1.0..=1000.0;

/// What scenario.toml says of one operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OperationRule {
    /// The smallest change that matters, in percent.
    pub worse_percent: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OperationTable {
    /// The smallest change that matters, in percent: 1 to 1000.
    worse_percent: Spanned<f64>,
}

pub(super) fn check(
    tables: BTreeMap<String, OperationTable>,
    source: &Source,
) -> Result<BTreeMap<String, OperationRule>, Error> {
    let one = |(name, table): (String, OperationTable)| {
        let worse_percent = *table.worse_percent.get_ref();
        if !PERCENT.contains(&worse_percent) {
            let message = format!(
                "the smallest change of {name} that matters is a percentage from {} to {}, such as 10",
                PERCENT.start(),
                PERCENT.end()
            );
            return Err(source.error_at(&table.worse_percent, message));
        }
        Ok((name, OperationRule { worse_percent }))
    };
    tables.into_iter().map(one).collect()
}
