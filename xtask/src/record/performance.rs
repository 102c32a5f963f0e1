//! `performance.json`: the raw samples of a case's measured operations and metrics, the resource usage of its containers and of the host,
//! and the machine of the run.

use std::collections::BTreeMap;

use e2e_contract::{Better, Metric};
use e2e_stats::Timings;
use serde::{Deserialize, Serialize};

/// Version of `performance.json`. Version 1 had wall times and metrics only.
pub const PERFORMANCE_VERSION: u32 = 2;

/// All that was measured in one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Performance {
    /// Version of this format: [`PERFORMANCE_VERSION`].
    pub format_version: u32,
    /// Name of the case, as `category/scenario:case`.
    pub case: String,
    /// Machine on which the case ran.
    pub machine: Machine,
    /// Class of comparable machines: a name of a-z, 0-9 and '-'. Only values from machines of the same class can be compared.
    pub machine_class: String,
    /// Operations by name.
    pub operations: BTreeMap<String, Operation>,
    /// Metrics by name.
    pub metrics: BTreeMap<String, MetricSamples>,
    /// Samples of the resource usage of containers and host; null where the thread that takes samples has failed.
    pub sampling: Option<Sampling>,
}

/// The machine of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Model of the processor, in the processor's own words.
    pub cpu_model: String,
    /// Number of processors that the run may use.
    pub cores: u32,
    /// Size of the machine's memory.
    pub memory_bytes: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Version of LXC.
    pub lxc: String,
    /// Storage of the layers: kind of file system, device, `solid state` or `rotating`.
    pub storage: String,
    /// Version of cgroups: `v1`, `v2` or `hybrid`.
    pub cgroup: String,
}

/// Repetitions of an operation, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Number of repetitions that the scenario's author planned; 1 for a one-shot operation.
    pub planned: u32,
    /// Number of repetitions that did not succeed.
    pub failed: u32,
    /// Innermost operation that was open when the first repetition of this one began; null where none was.
    pub parent: Option<String>,
    /// Samples of the repetitions that succeeded.
    pub samples: Vec<Sample>,
}

/// One repetition of an operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Number of the repetition, from 0; failed ones count too.
    pub repetition: u32,
    /// Start of the repetition on the run's clock.
    pub begun_ms: f64,
    /// Duration of the repetition by the scenario's clock.
    pub wall_ms: f64,
    /// Processor time of all containers during the repetition.
    pub cpu_ms: f64,
    /// Time for which tasks waited for a processor, added up over the containers; null where the kernel does not count it.
    pub wait_ms: Option<f64>,
    /// Calibration just before the repetition, where the run was told to calibrate.
    pub calibration: Option<Calibration>,
    /// Usage of each container, by its name in the lab.
    pub containers: BTreeMap<String, Usage>,
    /// Containers that were down at the start or end of the repetition, or were restarted during it: their usage is unknown and not in the
    /// sums.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<String>,
}

/// Times that a fixed piece of work took, which show the machine's speed at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Time from start to end of the program that does the work.
    pub wall_ms: f64,
    /// Processor time of the program's container in that time.
    pub cpu_ms: f64,
}

/// Resource usage of a container between two moments. Network counters are those of its port, headers of Ethernet included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Processor time in user mode.
    pub cpu_user_ms: f64,
    /// Processor time in the kernel.
    pub cpu_system_ms: f64,
    /// Time for which the container was throttled by its own limit of processor time, added up over processors.
    pub throttled_ms: f64,
    /// Time for which at least one of the container's tasks waited for a processor; null where the kernel does not count it.
    pub wait_ms: Option<f64>,
    /// Peak of memory usage, cached files included.
    pub memory_peak_bytes: u64,
    /// Number of processes that the kernel killed because memory ran out.
    pub oom_kills: u64,
    /// Bytes read from block devices; with cgroup version 1 only from the container's volumes. Null where the kernel does not count them,
    /// as in the next three fields.
    pub read_bytes: Option<u64>,
    /// Bytes written to block devices; cached writes count when the kernel writes them to the device.
    pub written_bytes: Option<u64>,
    /// Number of read requests to block devices.
    pub read_ops: Option<u64>,
    /// Number of write requests to block devices.
    pub write_ops: Option<u64>,
    /// Bytes received by the container.
    pub received_bytes: u64,
    /// Bytes sent by the container.
    pub sent_bytes: u64,
    /// Packets received by the container.
    pub received_packets: u64,
    /// Packets sent by the container.
    pub sent_packets: u64,
    /// Packets dropped at the container's port, in either direction.
    pub dropped_packets: u64,
}

/// Values of a metric, which the scenario measured itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricSamples {
    /// Unit of all values.
    pub unit: String,
    /// Direction in which values are better.
    pub better: Better,
    /// Values in the order in which the scenario reported them.
    pub values: Vec<f64>,
}

/// Resource usage of containers and host from the start of the session to its end, in samples at equal intervals and one at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Number of samples per second that was asked for.
    pub rate_hz: u32,
    /// Number of samples taken for each one that is kept: 1, doubled each time that there were too many to keep.
    pub thinned: u32,
    /// Number of samples taken.
    pub ticks: u32,
    /// Processor time of the engine's thread that took the samples.
    pub own_cpu_ms: f64,
    /// Time from the first sample to the last.
    pub duration_ms: f64,
    /// Time of each kept sample on the run's clock.
    pub at_ms: Vec<f64>,
    /// Values by container and by the counter's name: one for each kept sample, null where the container was down. Values that add up start
    /// at the start of the session, and go on over restarts of the container.
    pub series: BTreeMap<String, BTreeMap<String, Vec<Option<f64>>>>,
    /// Values of the whole host, by the counter's name.
    pub host: BTreeMap<String, Vec<Option<f64>>>,
}

impl Sample {
    /// Metrics that are judged pair by pair.
    pub const METRICS: [&str; 3] = ["cpu_ms", "wall_ms", "wall_minus_wait_ms"];

    /// Returns the value of a metric in [`Self::METRICS`]; `None` where the kernel does not count what the metric is computed from.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        match name {
            "cpu_ms" => Some(self.cpu_ms),
            "wall_ms" => Some(self.wall_ms),
            // The time that programs waited for a processor is the host's, not theirs. Waits of several programs overlap: no more
            // than the operation's own time can have been waited.
            "wall_minus_wait_ms" => Some((self.wall_ms - self.wait_ms?).max(self.wall_ms * 0.01)),
            _ => None,
        }
    }
}

impl Operation {
    /// Returns the times of the operation's samples, as they are judged. Samples without a calibration make the lists of calibrations
    /// shorter.
    #[must_use]
    pub fn timings(&self) -> Timings {
        let all = |value: fn(&Sample) -> f64| self.samples.iter().map(value).collect();
        let calibrations = self.samples.iter().filter_map(|sample| sample.calibration);
        let (calibration_wall_ms, calibration_cpu_ms) = calibrations.map(|one| (one.wall_ms, one.cpu_ms)).unzip();
        Timings {
            wall_ms: all(|sample| sample.wall_ms),
            cpu_ms: all(|sample| sample.cpu_ms),
            wait_ms: self.samples.iter().map(|sample| sample.wait_ms).collect(),
            calibration_wall_ms,
            calibration_cpu_ms,
        }
    }
}

impl Performance {
    /// Returns the times of the operations that were planned and done more than once, with a calibration before each sample.
    #[must_use]
    pub fn repeated(&self) -> BTreeMap<String, Timings> {
        let repeated = self.operations.iter().filter(|(_, one)| one.planned > 1 && one.samples.len() > 1);
        let timings = repeated.map(|(name, one)| (name.clone(), one.timings()));
        timings.filter(|(_, one)| one.calibration_wall_ms.len() == one.count()).collect()
    }

    /// Returns the content of a new performance.json, without measurements yet.
    #[must_use]
    pub fn new(case: String, machine: Machine, machine_class: String) -> Self {
        Self {
            format_version: PERFORMANCE_VERSION,
            case,
            machine,
            machine_class,
            operations: BTreeMap::new(),
            metrics: BTreeMap::new(),
            sampling: None,
        }
    }

    /// Reads a `performance.json`.
    ///
    /// # Errors
    /// When the text is no `performance.json`, or is of another version; the message says which, and what to do.
    pub fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let Version { format_version } =
            serde_json::from_str(text).map_err(|error| format!("this is no performance.json: {error}"))?;
        if format_version != PERFORMANCE_VERSION {
            return Err(format!(
                "this performance.json has version {format_version}, and this engine reads {PERFORMANCE_VERSION}: run \
                 the scenario again"
            ));
        }
        serde_json::from_str(text).map_err(|error| format!("this performance.json is damaged: {error}"))
    }

    /// Adds a repetition of an operation, with its sample; `None` counts it as failed. Returns the repetition's number, from 0, which
    /// replaces the one in `sample`.
    pub fn add(&mut self, operation: &str, planned: u32, parent: Option<String>, sample: Option<Sample>) -> u32 {
        let fresh = || Operation { parent, ..Operation::default() };
        let operation = self.operations.entry(operation.to_owned()).or_insert_with(fresh);
        operation.planned = planned;
        let repetition = u32::try_from(operation.samples.len()).unwrap_or(u32::MAX).saturating_add(operation.failed);
        match sample {
            Some(sample) => operation.samples.push(Sample { repetition, ..sample }),
            None => operation.failed += 1,
        }
        repetition
    }

    /// Adds a value of a metric.
    ///
    /// # Errors
    /// When the metric has another unit or direction already, or the value is no finite number.
    pub fn add_metric(&mut self, metric: &Metric) -> Result<(), String> {
        let Metric { name, value, unit, better } = metric;
        if !value.is_finite() {
            return Err(format!("the value of metric {name} is not a finite number"));
        }
        let fresh = || MetricSamples { unit: unit.clone(), better: *better, values: Vec::new() };
        let samples = self.metrics.entry(name.clone()).or_insert_with(fresh);
        if (&samples.unit, samples.better) != (unit, *better) {
            let shown = |unit: &str, better: Better| match better {
                Better::Higher => format!("{unit}, where higher is better"),
                Better::Lower => format!("{unit}, where lower is better"),
            };
            let (before, now) = (shown(&samples.unit, samples.better), shown(unit, *better));
            return Err(format!(
                "metric {name} is in {now}, and its earlier values are in {before}: a metric keeps its unit and direction"
            ));
        }
        samples.values.push(*value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Performance {
        let machine = Machine {
            cpu_model: "AMD EPYC".into(),
            cores: 2,
            memory_bytes: 24 << 30,
            kernel: "6.1.0".into(),
            lxc: "5.0.2".into(),
            storage: "ext4 on vda (solid state)".into(),
            cgroup: "v2".into(),
        };
        Performance::new("a/b:c".into(), machine, "x86-64-2c-24g-amd-epyc".into())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut performance = empty();
        let sample = Sample {
            repetition: 0,
            begun_ms: 12.5,
            wall_ms: 3.25,
            cpu_ms: 2.0,
            wait_ms: None,
            calibration: Some(Calibration { wall_ms: 14.0, cpu_ms: 11.5 }),
            containers: BTreeMap::from([("app".into(), Usage { sent_bytes: 7, ..Usage::default() })]),
            incomplete: vec!["db".into()],
        };
        assert_eq!(performance.add("query", 3, Some("outer".into()), Some(sample.clone())), 0);
        assert_eq!(performance.add("query", 3, None, None), 1);
        assert_eq!(performance.add("query", 3, None, Some(sample)), 2);
        assert_eq!(performance.operations["query"].samples[1].repetition, 2);
        assert_eq!(performance.operations["query"].parent.as_deref(), Some("outer"));
        let text = crate::record::readable_json(&performance).unwrap();
        assert_eq!(Performance::parse(&text), Ok(performance));
    }

    #[test]
    fn other_versions_and_other_files_are_told() {
        let old = r#"{"format_version": 1, "operations": {"page": {"planned": 5, "wall_ms": [1.0], "failed": 0}}}"#;
        let error = Performance::parse(old).unwrap_err();
        assert!(error.contains("has version 1") && error.contains("reads 2"), "{error}");
        let error = Performance::parse("{}").unwrap_err();
        assert!(error.starts_with("this is no performance.json"), "{error}");
        let error = Performance::parse(r#"{"format_version": 2, "case": "a"}"#).unwrap_err();
        assert!(error.starts_with("this performance.json is damaged"), "{error}");
    }

    #[test]
    fn a_metric_keeps_its_unit_and_direction() {
        let mut performance = empty();
        let metric =
            |value: f64, unit: &str| Metric { name: "rate".into(), value, unit: unit.into(), better: Better::Higher };
        performance.add_metric(&metric(1.0, "rows/s")).unwrap();
        let before =
            "and its earlier values are in rows/s, where higher is better: a metric keeps its unit and direction";
        let other = performance.add_metric(&metric(1.0, "rows/min")).unwrap_err();
        assert_eq!(other, format!("metric rate is in rows/min, where higher is better, {before}"));
        let turned = performance.add_metric(&Metric { better: Better::Lower, ..metric(1.0, "rows/s") }).unwrap_err();
        assert_eq!(turned, format!("metric rate is in rows/s, where lower is better, {before}"));
        assert!(performance.add_metric(&metric(f64::NAN, "rows/s")).is_err());
        assert_eq!(performance.metrics["rate"].values, [1.0]);
    }
}
