//! Benchmarks of code without LXC (statistics, verdicts, schedules, manifests): `cargo bench -p xtask --bench judge`.

#![expect(clippy::unwrap_used, reason = "a benchmark's program")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use e2e_stats::{
    Better, Duet, Estimates, Kind, Metric, Pair, Plan, Step, Thresholds, Timings, Verdict, committed, hodges_lehmann,
    hold_together, low_fifth, mann_whitney, moving_block, paired, paired_log_ratio, stream,
};
use rand::RngExt as _;
use xtask::fault::{Profile, Schedule};
use xtask::manifest::{Chaos, FaultRule, Project};
use xtask::rates::{Comparisons, Recording, Windows};

/// Returns pairs of random times, so noisy that a duet reaches its verdict only at its last interim analysis.
fn pairs(seed: u64, count: usize) -> Vec<(f64, f64)> {
    let mut stream = stream(seed, 97);
    let mut time = || 100.0 * (1.0 + 2.0 * stream.random::<f64>());
    (0..count).map(|_| (time(), time())).collect()
}

fn judged(pairs: &[(f64, f64)]) -> Vec<Verdict> {
    let metric = Metric { better: Better::Lower, thresholds: Thresholds::default() };
    let mut duet = Duet::new(Plan::quick(), vec![metric], 1);
    for values in pairs {
        if let Step::Done(verdicts) = duet.feed(&Pair { first: duet.first(), values: vec![*values] }) {
            return verdicts;
        }
    }
    duet.end("there were no more pairs")
}

fn statistics(c: &mut Criterion) {
    let pairs = pairs(1, 50);
    let (first, second): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let mut group = c.benchmark_group("stats, 50 pairs");
    group.bench_function("permutation", |b| b.iter(|| paired(black_box(&pairs), 0.2, 1)));
    group.bench_function("paired bootstrap", |b| b.iter(|| paired_log_ratio(black_box(&pairs), 0.3, 0.5, 0.9, 1)));
    group
        .bench_function("moving block bootstrap", |b| b.iter(|| moving_block(black_box(&first), 4, 0.9, 1, low_fifth)));
    group.bench_function("estimates", |b| b.iter(|| Estimates::of(black_box(&first), 1)));
    group.bench_function("hodges lehmann", |b| b.iter(|| hodges_lehmann(black_box(&first), &second)));
    group.bench_function("mann whitney", |b| b.iter(|| mann_whitney(black_box(&first), &second)));
}

fn verdicts(c: &mut Criterion) {
    let sets: Vec<_> = (0..60).map(|seed| pairs(seed, 50)).collect();
    let mut group = c.benchmark_group("verdicts");
    group.bench_function("60 duets of 50 pairs, held together", |b| {
        b.iter(|| {
            let mut verdicts: Vec<Verdict> = sets.iter().flat_map(|pairs| judged(black_box(pairs))).collect();
            hold_together(&mut verdicts);
            verdicts
        });
    });
    let (first, second): (Vec<f64>, Vec<f64>) = sets[0].iter().copied().unzip();
    let side = |samples: &[f64]| Timings {
        wall_ms: samples.to_vec(),
        cpu_ms: samples.to_vec(),
        wait_ms: None,
        calibration_wall_ms: first.clone(),
        calibration_cpu_ms: first.clone(),
    };
    group.bench_function("committed, 50 samples", |b| {
        let (before, after) = (side(&first), side(&second));
        b.iter(|| committed(black_box(&before), &after, Kind::Processor, Thresholds::default(), 1));
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/noise/raw.csv");
    let text = std::fs::read_to_string(&path).unwrap();
    group.bench_function("reading 240 KB of timings", |b| b.iter(|| Recording::parse(&path, black_box(&text))));
    let recording = [Recording::parse(&path, &text).unwrap()];
    group.sample_size(10);
    group.bench_function("the rules over 240 KB of timings, in order", |b| {
        b.iter(|| Comparisons { windows: Windows::InOrder, seed: 1 }.run(black_box(&recording)));
    });
}

fn schedules(c: &mut Criterion) {
    let rule = |fault: &str| FaultRule {
        fault: fault.into(),
        on: vec!["app".into(), "db".into(), "worker".into()],
        parameters: BTreeMap::new(),
    };
    let chaos = Chaos {
        faults: ["net", "node", "cpu", "memory"].map(rule).to_vec(),
        nothing_because: None,
        max_concurrent: 3,
        length: Duration::from_secs(60),
        longest: Duration::from_secs(5),
        quiet: Duration::from_millis(500),
        recovery: Duration::from_secs(30),
        sometimes: Vec::new(),
    };
    let mut seed = 0;
    c.bench_function("a heavy schedule of 60 s", |b| {
        b.iter(|| {
            seed += 1;
            Schedule::draw("x", black_box(&chaos), &Profile::Heavy, seed, &|_| true)
        });
    });
}

fn manifests(c: &mut Criterion) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    assert!(Project::read(&root).is_ok(), "the project's own files are good");
    c.bench_function("all manifests of the project", |b| b.iter(|| Project::read(black_box(&root))));
}

criterion_group!(pure, statistics, verdicts, schedules, manifests);
criterion_main!(pure);
