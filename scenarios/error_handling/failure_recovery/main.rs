//! Scenario of failure recovery: two streams of work go on through five failures: transfers that a program on app books on db with
//! Mancer, and jobs that workers take from Redis on db and whose results they store in PostgreSQL there.
//!
//! `fixtures/transfer.py` is the program. This scenario injects the failures, reads the state files of program and workers, and at the
//! end compares the data on db with `books.rs` and `jobs.rs`, which compute it again. With `--chaos`, faults of all kinds follow while
//! more jobs are handed in without a pause.

mod books;
mod jobs;
mod site;

use std::time::Duration;

use common::differences::differences;
use common::load::{Complaints, Load, Producer, no_result_vanishes};
use common::mancer;
use common::measured::Operations;
use common::round::Round;
use common::threads::together;
use e2e::{Container, Fault, InjectedFault, Lab, check};
use site::{AppState, Site};

/// Deadline for program and workers to report a failure that affects them; it takes 1 s of waiting, and a start of Python, on an idle
/// machine.
const DETECTION_DEADLINE: Duration = Duration::from_secs(10);
/// Deadline for work to go on after a failure has ended; it takes 1 s on an idle machine.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(20);
const NONE: &[String] = &[];
/// Number of times that the jobs which are handed in during faults are hashed.
const ROUNDS: u32 = 500;
/// Number of the last transfer of a statement.
const STATEMENT: u64 = 400;
/// Known defects of Mancer that `fixtures/probes.py` shows and the program avoids, with a part of the text of each failure.
const DEFECTS: [(&str, &str); 4] = [
    ("backend-timeout", "a time-out of 0.2 s acted when the command had ended by itself"),
    ("cache-keeps-failures", "the failure of a moment ago is given out again"),
    ("enforcer-on-error", "the handler of a failed command was not called"),
    ("enforcer-validator", "a result that its validator refuses is a success"),
];

fn main() -> std::process::ExitCode {
    e2e::Scenario::new(scenario).defects(probes).run()
}

fn scenario(lab: &Lab) -> e2e::Result {
    let site = Site::of(lab)?;
    together(|| probes(lab), || failures(lab, &site))?;
    let load = lab.step("tolerate faults", || tolerate_faults(lab, &site))?;
    let round = Round::new(site::JOB_BATCHES + 2, 100, ROUNDS);
    round.run(&site.app, &site.db)?; // whoever was away connects to PostgreSQL again
    lab.eventually("there are transfers enough for a statement", RECOVERY_DEADLINE, || {
        Ok(site.app_state()?.acknowledged >= STATEMENT)
    })?;
    lab.step("stop", || site.stop())?;
    check!(site.unlike()? == 0, "accounts whose balance is not what their transfers say");
    measure(lab, &site)?;
    verify(lab, &site, &load)
}

/// Measures how Mancer reads the books over SSH, and sends batches that are booked already.
fn measure(lab: &Lab, site: &Site) -> e2e::Result {
    let operations = Operations::start(lab, &site.app, "/srv/transfer", &[])?;
    let (transfers, balances) = books::after(STATEMENT);
    lab.measure_n("read_accounts", 3, || {
        let statement = site::statement(&operations, STATEMENT)?;
        check!(statement.transfers == transfers, "the first {STATEMENT} transfers, as Mancer reads them");
        check!(statement.balances == balances, "what the accounts held after them");
        Ok(())
    })?;
    lab.measure_n("send_batches_again", 3, || {
        let new: u64 = operations.perform_with("send_again", &[5])?;
        check!(new == 0, "transfers that are booked already are not new");
        Ok(())
    })
}

fn failures(lab: &Lab, site: &Site) -> e2e::Result {
    lab.measure("data_setup", || site.set_up(lab))?;
    app_crash(lab, site)?;
    db_kill(lab, site)?;
    app_cut_off(lab, site)?;
    volume_full(lab, site)?;
    all_at_once(lab, site)
}

/// Tries what Mancer is known to do wrong.
fn probes(lab: &Lab) -> e2e::Result {
    mancer::known_defects(lab, &lab.container("app")?, "/srv/transfer/probes.py", &DEFECTS)
}

/// Kills the program while its batch waits for a lock. PostgreSQL does not notice, and commits the batch when the lock is released,
/// although the program got no answer.
fn app_crash(lab: &Lab, site: &Site) -> e2e::Result {
    let before = site.app_state()?;
    let lock = site.lock(lab)?;
    site.queue_jobs(1)?;
    site.wait_until_work_waits(lab)?;
    let killed = lab.measure("app_crash_detection", || {
        let killed = site.app.inject(transfer_process())?;
        lock.release()?;
        notices(lab, site, "the program finds that it was killed", |app| app.crashes == before.crashes + 1)?;
        Ok(killed)
    })?;
    recovers(lab, site, "app_crash_recovery", vec![killed])?;
    let found = site.app_state()?.found_again - before.found_again;
    check!(found >= books::BATCH, "what was committed without an answer was sent again, and was there already");
    Ok(())
}

/// Kills the machine of PostgreSQL and Redis while a batch of the program and a chunk of each worker are half done.
fn db_kill(lab: &Lab, site: &Site) -> e2e::Result {
    let _gone_with_the_machine = site.lock(lab)?;
    site.queue_jobs(2)?;
    site.wait_until_work_waits(lab)?;
    let killed = lab.measure("db_kill_detection", || {
        let killed = site.db.inject(Fault::NodeKill)?;
        notices(lab, site, "the program has no database", AppState::lacks_the_database)?;
        lab.eventually("each worker lacks PostgreSQL", DETECTION_DEADLINE, || {
            Ok(site.lacking()?.iter().all(|lacking| lacking.contains(&"postgresql".to_owned())))
        })?;
        Ok(killed)
    })?;
    recovers(lab, site, "db_kill_recovery", vec![killed])
}

/// Cuts the program off from db; the workers can still reach it.
fn app_cut_off(lab: &Lab, site: &Site) -> e2e::Result {
    let cut = lab.measure("cut_detection", || {
        let cut = site.app.inject(Fault::NetIsolate)?;
        notices(lab, site, "the program gets no answer", |app| app.is_degraded_by("no answer"))?;
        Ok(cut)
    })?;
    site.queue_jobs(3)?;
    lab.eventually("the workers go on during the cut", RECOVERY_DEADLINE, || site.all_jobs_done())?;
    lab.eventually("no worker lacks anything during the cut", RECOVERY_DEADLINE, || {
        Ok(site.lacking()?.concat() == NONE)
    })?;
    recovers(lab, site, "cut_recovery", vec![cut])
}

/// Fills PostgreSQL's volume, so that it has no room for another page. The workers' results may still fit into its existing pages.
fn volume_full(lab: &Lab, site: &Site) -> e2e::Result {
    let full = lab.measure("full_volume_detection", || {
        let full = site.db.inject(Fault::DiskFull { path: "/var/lib/postgresql".into(), free_bytes: 0 })?;
        site.queue_jobs(4)?;
        notices(lab, site, "the program names the full disk", |app| app.is_degraded_by("disk full"))?;
        Ok(full)
    })?;
    recovers(lab, site, "full_volume_recovery", vec![full])
}

/// Kills db, cuts worker off, and kills the program at the same time.
fn all_at_once(lab: &Lab, site: &Site) -> e2e::Result {
    site.queue_jobs(5)?;
    let before = site.app_state()?;
    let faults = lab.measure("all_detection", || {
        let faults = inject_together(&[
            (&site.db, Fault::NodeKill),
            (&site.worker, Fault::NetIsolate),
            (&site.app, transfer_process()),
        ])?;
        let noticed = |app: &AppState| app.crashes == before.crashes + 1 && app.lacks_the_database();
        notices(lab, site, "the program knows of its death and of the database's", noticed)?;
        lab.eventually("each worker lacks something", DETECTION_DEADLINE, || {
            Ok(site.lacking()?.iter().all(|lacking| !lacking.is_empty()))
        })?;
        Ok(faults)
    })?;
    recovers(lab, site, "all_recovery", faults)
}

fn transfer_process() -> Fault {
    Fault::ProcessKill { command: "/srv/transfer/transfer.py".into() }
}

fn inject_together(faults: &[(&Container, Fault)]) -> e2e::Result<Vec<InjectedFault>> {
    std::thread::scope(|scope| {
        let injections: Vec<_> =
            faults.iter().map(|(container, fault)| scope.spawn(move || container.inject(fault.clone()))).collect();
        injections
            .into_iter()
            .map(|injection| injection.join().unwrap_or_else(|_| panic!("an injection panicked")))
            .collect()
    })
}

/// Waits until the program itself reports the failure.
fn notices(lab: &Lab, site: &Site, what: &str, noticed: impl Fn(&AppState) -> bool) -> e2e::Result {
    lab.eventually(what, DETECTION_DEADLINE, || Ok(noticed(&site.app_state()?)))?;
    Ok(())
}

/// Ends the faults and waits until transfers are acknowledged again and every job is done, without further help.
fn recovers(lab: &Lab, site: &Site, operation: &str, faults: Vec<InjectedFault>) -> e2e::Result {
    let acknowledged = site.app_state()?.acknowledged;
    lab.measure(operation, || {
        for fault in faults {
            fault.heal()?;
        }
        goes_on(lab, site, acknowledged)
    })
}

fn goes_on(lab: &Lab, site: &Site, acknowledged: u64) -> e2e::Result {
    lab.eventually("transfers are acknowledged again", RECOVERY_DEADLINE, || {
        let app = site.app_state()?;
        Ok(app.state == "working" && app.acknowledged > acknowledged)
    })?;
    lab.eventually("every job is done", RECOVERY_DEADLINE, || site.all_jobs_done())?;
    lab.eventually("no worker lacks anything", RECOVERY_DEADLINE, || Ok(site.lacking()?.concat() == NONE))?;
    Ok(())
}

/// Hands jobs in while transfers go on and `--chaos` injects faults.
fn tolerate_faults(lab: &Lab, site: &Site) -> e2e::Result<Load> {
    let mut load = Load::new(site::JOB_BATCHES + 1, ROUNDS);
    let acknowledged_before = site.app_state()?.acknowledged;
    lab.chaos(|chaos| {
        chaos.always("no result vanishes or is there twice", no_result_vanishes(&site.db));
        chaos.always("each balance is what its transfers say", || Ok(site.unlike()? == 0));
        load.run(lab, &Producer::RedisCli(&site.app), || chaos.lasts())
    })?;
    let acknowledged = site.app_state()?.acknowledged;
    lab.sometimes("transfers were acknowledged while faults were played", acknowledged > acknowledged_before)?;
    lab.sometimes("jobs were accepted while faults were played", load.accepted() > 0)?;
    goes_on(lab, site, acknowledged)?;
    Ok(load)
}

/// Checks that no acknowledged transfer is lost or duplicated, and that every job has its one correct result.
fn verify(lab: &Lab, site: &Site, load: &Load) -> e2e::Result {
    let booked = site.booked()?;
    lab.artifact("acknowledged.log", site.acknowledged_log()?)?;
    let acknowledged = books::numbers(&site.acknowledged_log()?)?;
    let out_of_order = acknowledged.iter().zip(1..).find(|(number, line)| **number != *line);
    check!(out_of_order == None, "each line of the log has the number of the line");
    check!(
        books::lost(&acknowledged, &booked.transfers) == NONE,
        "every acknowledged transfer is on db as it was sent"
    );
    check!(books::unexpected(&acknowledged, &booked.transfers) == NONE, "nothing else is on db but a batch under way");
    check!(booked.balances == books::balances(&booked.transfers), "each transfer has moved money once");
    let results = differences(&jobs::results(site::JOB_BATCHES), &site.results()?);
    check!(results == NONE, "each job has one result, the right one");
    let Complaints { lost, wrong } = load.complaints(&site.db)?;
    check!(lost == NONE, "every job that was accepted amid faults is done");
    check!(wrong == NONE, "each of their results is right");
    check!(site.left_in_the_queue()? == 0, "no job is left in Redis");
    lab.log(format!("{} transfers acknowledged, {} on db", acknowledged.len(), booked.transfers.len()));
    Ok(())
}
