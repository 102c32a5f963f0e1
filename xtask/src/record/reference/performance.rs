//! `docs/performance.md`: the file `performance.json`.

use std::collections::BTreeMap;

use e2e_contract::Better;

use super::document::{COMMAND, hold_to_file, table};
use super::source::fields;
use crate::record::{
    Calibration, Machine, MetricSamples, Operation, PERFORMANCE_VERSION, Performance, Sample, Sampling, Usage,
};

const SOURCE: &str = include_str!("../performance.rs");

/// The types of the file, from the outside in.
const TYPES: [&str; 8] =
    ["Performance", "Machine", "Operation", "Sample", "Calibration", "Usage", "MetricSamples", "Sampling"];

fn example() -> Performance {
    let usage = Usage {
        cpu_user_ms: 12.5,
        cpu_system_ms: 3.0,
        wait_ms: Some(0.75),
        memory_peak_bytes: 20 << 20,
        read_bytes: Some(0),
        written_bytes: Some(8192),
        read_ops: Some(0),
        write_ops: Some(2),
        received_bytes: 1480,
        sent_bytes: 5320,
        received_packets: 9,
        sent_packets: 8,
        ..Usage::default()
    };
    let sample = Sample {
        repetition: 0,
        begun_ms: 1475.25,
        wall_ms: 18.5,
        cpu_ms: 15.5,
        wait_ms: Some(0.75),
        calibration: Some(Calibration { wall_ms: 22.5, cpu_ms: 21.75 }),
        containers: BTreeMap::from([("db".to_owned(), usage)]),
        incomplete: vec!["worker".into()],
    };
    let machine = Machine {
        cpu_model: "AMD EPYC".into(),
        cores: 2,
        memory_bytes: 8 << 30,
        kernel: "6.1.0".into(),
        lxc: "5.0.2".into(),
        storage: "ext4 on vda, rotating".into(),
        cgroup: "v2".into(),
    };
    let rate = MetricSamples { unit: "records/s".into(), better: Better::Higher, values: vec![812.5] };
    let looks = |values: &[f64]| values.iter().map(|value| Some(*value)).collect::<Vec<_>>();
    let sampling = Sampling {
        rate_hz: 2,
        thinned: 1,
        ticks: 3,
        own_cpu_ms: 1.25,
        duration_ms: 1000.0,
        at_ms: vec![1000.0, 1500.0, 2000.0],
        series: BTreeMap::from([(
            "db".to_owned(),
            BTreeMap::from([("cpu_user_ms".to_owned(), looks(&[0.0, 12.5, 12.5]))]),
        )]),
        host: BTreeMap::from([("cpu_percent".to_owned(), looks(&[4.0, 80.5, 31.0]))]),
    };
    Performance {
        operations: BTreeMap::from([(
            "query".to_owned(),
            Operation { planned: 5, failed: 0, parent: Some("load".into()), samples: vec![sample] },
        )]),
        metrics: BTreeMap::from([("throughput".to_owned(), rate)]),
        sampling: Some(sampling),
        ..Performance::new("data_pipeline/data_ingestion:small".into(), machine, "amd-epyc-2".into())
    }
}

fn document() -> String {
    let example = serde_json::to_string_pretty(&example()).unwrap();
    Performance::parse(&example).expect("the example is one");
    let mut text = format!(
        "# performance.json\n\n\
         What was measured in one case, in the case's folder of a run. How to read it: \
         [verdicts.md](verdicts.md#where-to-look-when-it-is-worse). This is\nversion {PERFORMANCE_VERSION}. Units stand last in names; \
         times named `at_ms` and `begun_ms` are those of the run's clock. This page is made from\nthe types in \
         `xtask/src/record/performance.rs`: `{COMMAND}`.\n\n```json\n{example}\n```\n"
    );
    for name in TYPES {
        let fields = fields(SOURCE, name).unwrap_or_else(|| panic!("the source has no {name}"));
        for field in &fields {
            assert!(!field.meaning.is_empty(), "{name}: {} has no documentation", field.name);
            assert!(example.contains(&format!("\"{}\":", field.name)), "the example has no {}", field.name);
        }
        let title = if name == "Performance" { "The file".to_owned() } else { format!("The type {name}") };
        text.push_str(&format!("\n## {title}\n\n{}", table(&fields)));
    }
    text
}

#[test]
fn the_page_is_what_the_types_say() {
    hold_to_file("docs/performance.md", &document());
}
