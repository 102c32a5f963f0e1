//! `performance.json`: the raw samples of a case's measured operations and metrics.

use std::collections::BTreeMap;

use e2e_contract::{Better, Metric};
use serde::{Deserialize, Serialize};

use super::FORMAT_VERSION;

/// All operations of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Performance {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// By name.
    pub operations: BTreeMap<String, OperationSamples>,
    /// By name.
    #[serde(default)]
    pub metrics: BTreeMap<String, MetricSamples>,
}

/// What the scenario has found out itself, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricSamples {
    /// Of all values.
    pub unit: String,
    /// Which of them are the good ones.
    pub better: Better,
    /// In order.
    pub values: Vec<f64>,
}

/// One operation's repetitions, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OperationSamples {
    /// How many repetitions the scenario announced; 1 for a one-shot operation.
    pub planned: u32,
    /// Wall time of each repetition that succeeded.
    pub wall_ms: Vec<f64>,
    /// How many did not.
    pub failed: u32,
}

impl Default for Performance {
    fn default() -> Self {
        Self { format_version: FORMAT_VERSION, operations: BTreeMap::new(), metrics: BTreeMap::new() }
    }
}

impl Performance {
    /// Adds a repetition; the answer is its number, from 0.
    pub fn add(&mut self, operation: &str, planned: u32, wall_ms: f64, succeeded: bool) -> u32 {
        let samples = self.operations.entry(operation.to_owned()).or_default();
        samples.planned = planned;
        let number = u32::try_from(samples.wall_ms.len()).unwrap_or(u32::MAX) + samples.failed;
        if succeeded {
            samples.wall_ms.push(wall_ms);
        } else {
            samples.failed += 1;
        }
        number
    }

    /// Adds a value.
    ///
    /// # Errors
    /// When its name stands for another unit or direction already, or it is no number.
    pub fn add_metric(&mut self, metric: &Metric) -> Result<(), String> {
        let Metric { name, value, unit, better } = metric;
        if !value.is_finite() {
            return Err(format!("metric {name} is no finite number"));
        }
        let fresh = || MetricSamples { unit: unit.clone(), better: *better, values: Vec::new() };
        let samples = self.metrics.entry(name.clone()).or_insert_with(fresh);
        if (&samples.unit, samples.better) != (unit, *better) {
            return Err(format!("metric {name} is in {} already, not in {unit}", samples.unit));
        }
        samples.values.push(*value);
        Ok(())
    }
}
