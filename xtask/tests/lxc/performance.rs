//! Usage of operations and machines, and limits, on work whose amount is known.

use std::path::Path;

use xtask::record::{Operation, Performance, Sample, Usage};

use super::common::{Host, e2e, events, record, said, selftest};

const MEBIBYTE: u64 = 1 << 20;

fn performance(project: &Path, folder: &str) -> Performance {
    let path = project.join("target/e2e/latest").join(folder).join("performance.json");
    Performance::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn cpu_ms(usage: &Usage) -> f64 {
    usage.cpu_user_ms + usage.cpu_system_ms
}

fn only(operation: &Operation) -> &Sample {
    assert_eq!(operation.samples.len(), 1, "{operation:?}");
    &operation.samples[0]
}

#[test]
fn operations_say_what_each_machine_used() {
    let _host = Host::take();
    let project = selftest();
    let output = e2e(&project, &["usage", "--perf=20"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let performance = performance(&project, "smoke/usage");
    assert_eq!(performance.case, "smoke/usage:default");
    let operation = |name: &str| &performance.operations[name];

    // What a program says of its own processor time is what its container used, beside the start of the program.
    let own = &performance.metrics["work_cpu"].values;
    let work = operation("work");
    assert_eq!((work.planned, work.failed, work.samples.len(), own.len()), (3, 0, 3, 3));
    for (sample, own_ms) in work.samples.iter().zip(own) {
        let (a, b) = (cpu_ms(&sample.containers["a"]), cpu_ms(&sample.containers["b"]));
        assert!(
            *own_ms > 0.0 && a > 0.6 * own_ms - 20.0 && a < 3.0 * own_ms + 200.0,
            "{a} ms, {own_ms} ms: {sample:?}"
        );
        assert!(b < a / 4.0, "b has done nothing: {sample:?}");
        assert!((sample.cpu_ms - a - b).abs() < 0.01 && sample.wall_ms > 0.0 && sample.begun_ms > 0.0, "{sample:?}");
        let calibration = sample.calibration.expect("--perf calibrates");
        assert!(calibration.wall_ms > 0.0 && calibration.cpu_ms > 0.0, "{sample:?}");
        assert_eq!(sample.incomplete, Vec::<String>::new());
    }
    assert!(work.samples.windows(2).all(|pair| pair[0].begun_ms < pair[1].begun_ms), "{work:?}");

    let write = only(operation("write"));
    let written = |sample: &Sample, name: &str| sample.containers[name].written_bytes.unwrap();
    assert!(written(write, "a") >= 4 * MEBIBYTE && written(write, "b") == 0, "{write:?}");
    assert!(written(only(operation("fetch")), "a") < 4 * MEBIBYTE, "another operation's writes: {performance:?}");
    assert_eq!(write.calibration, None, "one-shot operations are not calibrated");

    let fill = only(operation("fill_memory"));
    let peak = |sample: &Sample, name: &str| sample.containers[name].memory_peak_bytes;
    assert!(peak(fill, "a") >= 12 * MEBIBYTE, "{fill:?}");
    assert!(peak(fill, "b") > 0 && peak(fill, "b") < 12 * MEBIBYTE, "{fill:?}");
    assert!(peak(&work.samples[0], "a") < peak(fill, "a"), "a peak is that of its operation: {performance:?}");

    let fetch = only(operation("fetch"));
    let (a, b) = (&fetch.containers["a"], &fetch.containers["b"]);
    assert!(a.received_bytes >= 2 * MEBIBYTE && b.sent_bytes >= 2 * MEBIBYTE, "{fetch:?}");
    assert!(a.sent_bytes < MEBIBYTE && b.received_bytes < MEBIBYTE, "{fetch:?}");
    assert!(a.sent_bytes > 0 && a.received_packets > 0 && b.sent_packets > 0, "{fetch:?}");

    let (outer, inner) = (operation("outer"), operation("inner"));
    assert_eq!((inner.parent.as_deref(), outer.parent.as_deref()), (Some("outer"), None));
    assert_eq!(inner.samples.len(), 2);
    let inner_ms: f64 = inner.samples.iter().map(|sample| sample.cpu_ms).sum();
    assert!(only(outer).cpu_ms >= inner_ms - 0.1, "{outer:?} {inner:?}");

    let restart = only(operation("restart"));
    assert_eq!(restart.incomplete, ["b"]);
    assert!(restart.containers.contains_key("a") && !restart.containers.contains_key("b"), "{restart:?}");
    let after = only(operation("after"));
    assert!(after.incomplete.is_empty() && cpu_ms(&after.containers["b"]) > 0.0, "{after:?}");
    assert!(cpu_ms(&after.containers["b"]) > cpu_ms(&after.containers["a"]), "{after:?}");

    the_machine_is_named(&performance);
    looks_are_at_equal_distances(&performance);
}

fn the_machine_is_named(performance: &Performance) {
    let machine = &performance.machine;
    assert!(machine.cores >= 1 && machine.memory_bytes > MEBIBYTE, "{machine:?}");
    for text in [&machine.cpu_model, &machine.kernel, &machine.lxc, &machine.storage] {
        assert!(!text.is_empty(), "{machine:?}");
    }
    assert!(["v1", "v2", "hybrid"].contains(&machine.cgroup.as_str()), "{machine:?}");
    let class = &performance.machine_class;
    assert!(class.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{class}");
    assert!(class.contains(&format!("-{}c-", machine.cores)), "{class}");
}

fn looks_are_at_equal_distances(performance: &Performance) {
    let sampling = performance.sampling.as_ref().unwrap();
    assert_eq!((sampling.rate_hz, sampling.thinned), (20, 1));
    let expected = 20.0 * sampling.duration_ms / 1e3 + 1.0;
    let ticks = f64::from(sampling.ticks);
    assert!(ticks > expected / 2.0 && ticks < expected + 2.0, "{ticks} looks, {expected} expected");
    let kept = sampling.at_ms.len();
    assert_eq!(kept, sampling.ticks as usize);
    assert!(sampling.at_ms.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", sampling.at_ms);
    assert!(sampling.own_cpu_ms > 0.0 && sampling.own_cpu_ms < sampling.duration_ms / 10.0, "{}", sampling.own_cpu_ms);
    assert!(sampling.host.values().all(|column| column.len() == kept) && sampling.host.len() == 3);
    assert_eq!(sampling.series.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "b"]);
    for (name, columns) in &sampling.series {
        assert!(columns.values().all(|column| column.len() == kept), "{name}");
        for counter in ["cpu_user_ms", "sent_bytes", "received_bytes", "oom_kills", "memory_peak_bytes"] {
            let seen: Vec<f64> = columns[counter].iter().copied().flatten().collect();
            assert!(!seen.is_empty() && seen.is_sorted(), "{counter} of {name} goes on over a restart: {seen:?}");
        }
    }
    let last = |name: &str, counter: &str| sampling.series[name][counter].iter().rev().flatten().next().copied();
    assert!(last("a", "written_bytes").unwrap() >= 4.0 * 1_048_576.0);
    assert!(last("b", "sent_bytes").unwrap() >= 2.0 * 1_048_576.0);
    assert!(last("b", "processes").unwrap() >= 1.0);
}

#[test]
fn the_machines_are_looked_at_twice_a_second_without_being_asked() {
    let _host = Host::take();
    let project = selftest();
    let output = e2e(&project, &["three_machines"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let performance = performance(&project, "smoke/three_machines");
    let sampling = performance.sampling.as_ref().unwrap();
    assert_eq!((sampling.rate_hz, sampling.series.len()), (2, 3));
    let samples = &performance.operations["page"].samples;
    assert!(samples.iter().all(|sample| sample.calibration.is_none() && sample.containers.len() == 3), "{samples:?}");

    for (flag, expected) in [
        ("--perf=0", "\"0\" is not a whole number from 1 to 50"),
        ("--perf=51", "\"51\" is not a whole number from 1 to 50"),
    ] {
        let output = e2e(&project, &["three_machines", flag]).output().unwrap();
        assert_eq!(output.status, 2, "{}", said(&output));
        assert!(said(&output).contains(expected), "{}", said(&output));
    }
}

#[test]
fn a_case_that_uses_more_than_it_may_fails_and_says_where() {
    let _host = Host::take();
    let project = selftest();
    // Processor time is multiplied by the patience of a slow machine.
    let output = e2e(&project, &["limits", "--patience", "1"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let checks = |passed: bool| -> Vec<String> {
        let of = events(&project).into_iter().filter(|event| event["event"] == "check");
        let of = of.filter(|check| check["passed"] == passed);
        of.map(|check| check["condition"].as_str().unwrap().to_owned()).collect()
    };
    let limits = ["written_bytes of a <= 4194304", "cpu_seconds of a <= 60.000", "memory_peak_bytes of b <= 62914560"];
    assert_eq!(checks(true), limits);

    let output = e2e(&project, &["limits:beyond", "--patience", "1"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    assert_eq!(checks(false), limits[..1]);
    let cause = record(&project)["cases"][0]["attempts"][0]["cause"].clone();
    assert_eq!(cause["cause"], "check", "{cause}");
    let manifest = std::fs::read_to_string(project.join("scenarios/smoke/limits/scenario.toml")).unwrap();
    let line = manifest.lines().position(|line| line.starts_with("written_bytes")).unwrap() + 1;
    let message = cause["message"].as_str().unwrap();
    assert!(message.starts_with("written_bytes of a <= 4194304 [written_bytes = "), "{message}");
    assert!(message.ends_with(&format!("at scenarios/smoke/limits/scenario.toml:{line}")), "{message}");
    let value = message.split(" = ").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
    assert!(value.parse::<u64>().unwrap() >= 8 * MEBIBYTE, "{message}");

    // What failed by itself is told as that; the check stands in the record all the same.
    let output = e2e(&project, &["limits:beyond_and_wrong", "--patience", "1"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    assert_ne!(record(&project)["cases"][0]["attempts"][0]["cause"]["cause"], "check");
    assert_eq!(checks(false), limits[..1]);
}
