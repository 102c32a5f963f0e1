//! Scenario of a deployment: releases of a small service are deployed to worker and db, and those of the nginx site in front of them to
//! app: a first release, an update, one that works on worker only, and one that never answers. The last two must be rolled back by
//! themselves, and a client that sends requests all the time must hardly notice. With `--chaos`, good releases are deployed during faults
//! afterwards: a deployment may fail then, and every answer must be that of a good release.
//!
//! The deployment is `fixtures/deploy.py`. This program starts it, looks at the machines from outside, and compares their files with
//! those that `release.rs` computes from the fixtures.

mod client;
mod machines;
mod release;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use client::Seen;
use common::measured::Operations;
use common::threads::together;
use common::{files, mancer};
use e2e::{Chaos, Lab, check};
use machines::Machines;
use report::deploy;

/// Maximum time for which a client may go without a good answer, during any deployment.
const BUDGET: Duration = Duration::from_secs(2);
/// Releases that work everywhere.
const GOOD: [u32; 2] = [1, 2];
/// Unit for `probes.py` that records each start and always fails.
const NEVER_STARTS: &str = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo >> /tmp/never-starts; exit 1'\n";

/// Known defects of Mancer that `deploy.py` works around, with a part of the text of each failure.
const DEFECTS: [(&str, &str); 8] = [
    ("upload-runs-remotely", "upload_file: exit code 255: Host key verification failed"),
    ("download-runs-remotely", "download_file: exit code 255: Host key verification failed"),
    ("config-sync", "sync_config_file: Błąd zapisu do pliku docelowego"),
    ("empty-input-is-stdin", "execute with empty input_data wrote 'what was on stdin'"),
    ("nginx-conf-is-ini", "validate_config: Błąd walidacji INI: File contains no section headers"),
    ("restart-without-sudo", "manage_systemd_service: Failed to restart cron.service: Access denied"),
    ("restart-runs-twice", "restart_unit started the service 2 times"),
    ("imports-paramiko", "No module named 'paramiko'"),
];

fn main() -> std::process::ExitCode {
    e2e::Scenario::new(scenario).defects(probes).run()
}

fn scenario(lab: &Lab) -> e2e::Result {
    let machines = Machines::of(lab)?;
    let app = &machines.app;
    files::install(lab, app, "/srv/deployment")?;

    let ((), first) = lab.step("the first release, and what Mancer does wrong meanwhile", || {
        together(|| probes(lab), || deploy(lab, app, 1))
    })?;
    let (outcome, states) = (first.outcome(), first.states());
    check!(outcome == "deployed");
    check!(states == ["worker: deployed, restarts: 1", "db: deployed, restarts: 1", "app: deployed, restarts: 0"]);
    machines.check_state(1, &[1], [&[1], &[1]])?;

    let (requests, ()) = together(
        || client::poll(app, "/tmp/requests.jsonl"),
        || {
            let deployed = update_and_break(lab, &machines);
            client::stop(app)?;
            deployed
        },
    )?;
    let seen = Seen::of(&requests);
    lab.artifact("requests.jsonl", app.get("/tmp/requests.jsonl")?)?;
    lab.log(format!("a client that asked every {:?}: {seen:?}", client::INTERVAL));
    check!(seen.longest_gap <= BUDGET, "the client asked all the time");
    check!(seen.longest_outage <= BUDGET, "no client was without a good answer for longer than the budget");
    check!(seen.slowest <= BUDGET, "no client waited for a good answer for longer than the budget");
    check!(!seen.versions.contains(&4), "release 4 answers nobody");

    measure(lab, &machines)?;
    lab.step("tolerate faults", || tolerate_faults(lab, &machines))
}

/// Tries what Mancer is known to do wrong.
fn probes(lab: &Lab) -> e2e::Result {
    lab.container("worker")?.write("/run/systemd/system/never-starts.service", NEVER_STARTS)?;
    mancer::known_defects(lab, &lab.container("app")?, "/srv/deployment/probes.py", &DEFECTS)
}

/// Measures how Mancer brings a release to worker over SSH, and its site to app; both have it already.
fn measure(lab: &Lab, machines: &Machines) -> e2e::Result {
    let operations = Operations::start(lab, &machines.app, "/srv/deployment", &[])?;
    for (operation, machine) in [("prepare_release", "worker"), ("prepare_site", "app")] {
        let expected = machines.sums(machine, 2)?;
        lab.measure_n(operation, 3, || {
            let sums: BTreeMap<String, String> = operations.perform_with(operation, &["2"])?;
            check!(sums == expected, "the checksum of each file of release 2 on {machine}");
            Ok(())
        })?;
    }
    machines.check_release(2, &GOOD)
}

/// Deploys the update and the two releases that have to be rolled back, while the client sends requests.
fn update_and_break(lab: &Lab, machines: &Machines) -> e2e::Result {
    let app = &machines.app;
    let update = lab.measure("update", || deploy(lab, app, 2))?;
    let (outcome, states) = (update.outcome(), update.states());
    check!(outcome == "deployed");
    check!(states == ["worker: deployed, restarts: 1", "db: deployed, restarts: 1", "app: deployed, restarts: 0"]);
    machines.check_state(2, &[1, 2], [&[1, 2], &[1, 2]])?;

    let broken = lab.measure("rollback_of_two", || deploy(lab, app, 3))?;
    let (outcome, states) = (broken.outcome(), broken.states());
    check!(outcome.starts_with("rolled back: health of db: 3 bad answers in a row: status 503"), "{outcome}");
    check!(outcome.contains("/srv/data is missing"), "release 3 needs a folder that db does not have: {outcome}");
    check!(
        states == ["worker: rolled back, restarts: 2", "db: rolled back, restarts: 2", "app: untouched, restarts: 0"]
    );
    machines.check_state(2, &[1, 2], [&[1, 2, 3, 2], &[1, 2, 3, 2]])?;

    let silent = lab.measure("rollback_at_deadline", || deploy(lab, app, 4))?;
    let (outcome, states) = (silent.outcome(), silent.states());
    check!(outcome.starts_with("rolled back: health of worker: not healthy within 0.5 s"), "{outcome}");
    check!(states == ["worker: rolled back, restarts: 2", "db: untouched, restarts: 0", "app: untouched, restarts: 0"]);
    machines.check_state(2, &[1, 2], [&[1, 2, 3, 2, 4, 2], &[1, 2, 3, 2]])
}

/// Deploys the two good releases in turns while `--chaos` injects faults, and once more afterwards.
fn tolerate_faults(lab: &Lab, machines: &Machines) -> e2e::Result {
    let app = &machines.app;
    let played = lab.chaos(|chaos| {
        if !chaos.is_playing() {
            return Ok(false);
        }
        let (requests, ()) = together(
            || client::poll(app, "/tmp/amid-faults.jsonl"),
            || {
                let deployed = deploy_in_turns(lab, machines, chaos);
                client::stop(app)?;
                deployed
            },
        )?;
        lab.artifact("amid-faults.jsonl", app.get("/tmp/amid-faults.jsonl")?)?;
        // No budget here: what is played may take both hosts away at once.
        let seen = Seen::of(&requests);
        lab.log(format!("a client that asked every {:?} amid faults: {seen:?}", client::INTERVAL));
        check!(seen.versions.is_subset(&BTreeSet::from(GOOD)), "whoever is answered gets a good release");
        Ok(true)
    })?;
    if played {
        for version in GOOD {
            let outcome = deploy(lab, app, version)?.outcome();
            check!(outcome == "deployed", "release {version} after all faults");
        }
        machines.check_release(2, &GOOD)?;
    }
    Ok(())
}

fn deploy_in_turns(lab: &Lab, machines: &Machines, chaos: &Chaos<'_, '_>) -> e2e::Result {
    for version in GOOD.into_iter().cycle() {
        if !chaos.lasts() {
            break;
        }
        let attempt = lab.invoke("deployment", "deploy", version)?;
        match deploy(lab, &machines.app, version) {
            Ok(report) if report.outcome() == "deployed" => attempt.ok(())?,
            Ok(report) => attempt.fail(report.outcome())?,
            Err(error) => attempt.unknown(format!("{error:#}"))?,
        }
    }
    Ok(())
}
