//! The catalogue of faults on real containers: the scenario checks each one from inside, this the record.

use super::common::{Host, e2e, engine, events, mancer, said, selftest, slot};

#[test]
fn every_fault_bites_is_recorded_and_is_healed() {
    let _host = Host::take();
    let project = selftest();
    let output = e2e(&project, &["faults"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let of = |kind: &str| -> Vec<(String, u64)> {
        let events = events(&project).into_iter().filter(|event| event["event"] == kind);
        let key = |event: &serde_json::Value| {
            assert!(!event["evidence"].as_str().unwrap().is_empty(), "{event}");
            (event["case"].as_str().unwrap().to_owned(), event["fault"].as_u64().unwrap())
        };
        let mut keys: Vec<_> = events.map(|event| key(&event)).collect();
        keys.sort();
        keys
    };
    let (injected, healed) = (of("fault_injected"), of("fault_healed"));
    assert_eq!(injected, healed, "each is healed once, those too that the scenario left");
    let names: std::collections::BTreeSet<String> = events(&project)
        .iter()
        .filter(|event| event["event"] == "fault_injected")
        .map(|event| event["description"]["name"].as_str().unwrap().to_owned())
        .collect();
    let mut of_busybox = vec![
        "cpu.burn",
        "cpu.quota",
        "disk.dead",
        "disk.fs-error",
        "disk.full",
        "disk.inodes",
        "disk.readonly",
        "disk.slow",
        "dns.drop",
        "dns.refuse",
        "dns.servfail",
        "dns.spoof",
        "fd.cap",
        "file.bitflip",
        "file.truncate",
        "io.delay",
        "io.error",
        "memory.limit",
        "memory.oom",
        "memory.pressure",
        "net.corrupt",
        "net.delay",
        "net.duplicate",
        "net.flap",
        "net.isolate",
        "net.loss",
        "net.mtu-hole",
        "net.nth-loss",
        "net.oneway",
        "net.partition",
        "net.port-block",
        "net.rate",
        "net.reset",
        "net.stall",
        "node.freeze",
        "node.kill",
        "node.restart-storm",
        "node.stop",
        "pids.cap",
        "process.crashloop",
        "process.kill",
        "process.pause",
    ];
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1) {
        of_busybox.push("cpu.pin");
    }
    assert_eq!(names, of_busybox.into_iter().map(String::from).collect(), "all but those that need systemd");
}

#[test]
fn the_whole_catalogue_can_be_tried() {
    let _host = Host::take();
    let project = mancer();
    let output = engine()
        .args(["--root", &project.display().to_string(), "--format", "json", "fault", "try", "--all", "--slot", slot()])
        .dir(&project)
        .deadline(std::time::Duration::from_secs(500))
        .output()
        .unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows.len(), e2e_contract::Fault::NAMES.len());
    for row in &rows {
        let done = row["bites"] == true && row["healed"] == true;
        assert!(done || row["supported"] == false, "{row:#}");
        assert!(!row["evidence"].as_str().unwrap().is_empty(), "{row:#}");
    }
    assert_eq!(output.status, 0, "{}", said(&output));
}
