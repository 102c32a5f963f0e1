//! Scenario of graceful degradation: a service on app, written with Mancer (`fixtures/frontend.py`), answers a client without a pause
//! while one part after the other fails: Redis, the machine db, one of three workers, the speed of the network. The service must go on
//! with the other parts, quickly, report what is degraded, and recover by itself; at the end every job must be done once. With `--chaos`,
//! faults of all kinds follow: then an answer may be missing, and none may be wrong.
//!
//! This program injects the faults and looks from outside: at the answers that the client (`fixtures/client.py` on worker) recorded, at
//! the states that service and workers report, and at the results in the database.

mod answers;
mod jobs;
mod outage;

use std::time::{Duration, SystemTime};

use answers::{Answer, Kind, complaints};
use common::load::no_result_vanishes;
use common::measured::Operations;
use common::threads::together;
use common::{http, mancer};
use e2e::{Container, Fault, Http, Lab, Unit, check};
use outage::{Outage, Site};
use serde::Deserialize;
use serde_json::json;

const NONE: &[&str] = &[];
/// Jobs of batch 1 whose results are looked up while nothing is degraded.
const IDS: [u64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
/// Maximum time of an answer: 2.5 s of time limits, and a margin for the machine.
const BOUND: Duration = Duration::from_secs(4);
/// Interval between two checks whether faults are still to come.
const LOOK: Duration = Duration::from_millis(100);
/// Known defects of Mancer's time limits, in place of which the service has its own, with a part of the text of each failure.
/// `scenarios/DEFECTS.md` describes them.
const DEFECTS: &[(&str, &str)] = &[
    ("backend-timeout", "sleep 2 with timeout=1 was waited for to its end"),
    ("enforcer-timeout", "sleep 2 succeeded with_timeout(1)"),
    ("enforcer-validator", "the validator wants PONG, the output is LOADING, and it is a success"),
    ("timeout-of-connect-only", "sleep 2 on db succeeded with timeout=1"),
];

fn main() -> std::process::ExitCode {
    e2e::Scenario::new(scenario).defects(probes).run()
}

fn scenario(lab: &Lab) -> e2e::Result {
    let (app, db, worker) = (lab.container("app")?, lab.container("db")?, lab.container("worker")?);
    lab.step("lay things out", || lay_out(lab, &app, &worker))?;
    let site = Site { lab, db: &db, worker: &worker };

    let (_, mut outages) = together(
        || probes(lab),
        || {
            lab.measure("service_start", || start(lab, &app, &db, &worker))?;
            lab.step("one part after the other fails", || one_after_the_other(&site))
        },
    )?;
    outages.extend(lab.step("tolerate faults", || tolerate_faults(&site))?);

    lab.measure("last_jobs", || {
        // It ends when all its jobs were accepted.
        worker.exec(["systemctl", "stop", "client.service"])?.success()?;
        site.all_accepted_are_done()
    })?;
    lab.artifact("answers.jsonl", worker.get(outage::RECORD)?)?;
    let answers = site.answers()?;
    lab.step("look at every answer", || judge(lab, &answers, &outages))?;
    lab.step("look at every job", || {
        let wrong = jobs::wrong(&db, &accepted(&answers), &unanswered(&answers))?;
        check!(wrong == NONE, "each job has one result, and the right one");
        Ok(())
    })?;
    measure(lab, &app, &worker)
}

/// Measures how Mancer looks at the workers over SSH, and how the service looks up results in Redis with it, while nothing is degraded.
fn measure(lab: &Lab, app: &Container, worker: &Container) -> e2e::Result {
    look_up(worker)?; // from now on Redis has them
    let operations = Operations::start(lab, app, "/srv/frontend", &[])?;
    lab.measure_n("look_at_workers", 3, || {
        let missing: Vec<String> = operations.perform("look_at_workers")?;
        check!(missing == NONE, "every worker is there");
        Ok(())
    })?;
    let expected = IDS.map(|id| jobs::expected(1, id).digest);
    lab.measure_n("look_up_results", 3, || {
        let found: Vec<Option<String>> = operations.perform_with("look_up", &[json!(1), json!(IDS)])?;
        let found: Vec<String> = found.into_iter().map(Option::unwrap_or_default).collect();
        check!(found == expected, "the result of each job, from Redis");
        Ok(())
    })
}

/// Tries what Mancer is known to do wrong.
fn probes(lab: &Lab) -> e2e::Result {
    mancer::known_defects(lab, &lab.container("app")?, "/srv/frontend/probes.py", DEFECTS)
}

/// Looks up results of batch 1 from worker, one after the other, while nothing is degraded.
fn look_up(worker: &Container) -> e2e::Result {
    #[derive(Deserialize)]
    struct Found {
        degraded: Vec<String>,
        digest: String,
    }
    let pages = http::get(worker, &IDS.map(|id| format!("http://app:8080/result?batch=1&id={id}")))?;
    for (id, page) in IDS.into_iter().zip(pages) {
        let found: Found = serde_json::from_str(&page)?;
        check!(
            found.digest == jobs::expected(1, id).digest && found.degraded == NONE,
            "the result of job {id}: {page}"
        );
    }
    Ok(())
}

/// Installs the programs on their machines, makes the table, and starts three workers.
fn lay_out(lab: &Lab, app: &Container, worker: &Container) -> e2e::Result {
    for name in ["frontend.py", "schema.sql"] {
        app.put(lab.fixture(name), format!("/srv/frontend/{name}"))?;
    }
    app.put(lab.fixture("frontend.service"), "/etc/systemd/system/frontend.service")?;
    let table = ["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-h", "db", "-f", "/srv/frontend/schema.sql"];
    app.command(table).user("mancer").run()?.success()?;
    worker.put(lab.fixture("client.py"), outage::CLIENT)?;
    worker.exec(["systemctl", "start", "batch-worker@1", "batch-worker@2", "batch-worker@3"])?.success()?;
    Ok(())
}

/// Starts the service, lets the workers do the jobs of batch 1 through it, and starts the client.
fn start(lab: &Lab, app: &Container, db: &Container, worker: &Container) -> e2e::Result {
    // Enabled: where its machine starts again, it does.
    app.exec(["systemctl", "enable", "--quiet", "--now", "frontend.service"])?.success()?;
    app.wait_for(Http(":8080/health"))?;
    worker.exec(["python3", outage::CLIENT, "prepare"])?.success()?;
    lab.eventually("the workers have done batch 1", Duration::from_secs(30), || jobs::is_prepared(db))?;
    let unit = ["systemd-run", "--quiet", "--unit=client", "--property=TimeoutStopSec=30"];
    worker.exec([&unit[..], &["python3", outage::CLIENT, "run", outage::RECORD]].concat())?.success()?;
    worker.wait_for(Unit("client.service"))?;
    Ok(())
}

/// Causes the four outages, each from its start until nothing is degraded any more.
fn one_after_the_other(site: &Site<'_>) -> e2e::Result<Vec<Outage>> {
    let redis = Fault::ServiceStop { unit: "redis-server.service".into() };
    let third = Fault::ServiceStop { unit: "batch-worker@3.service".into() };
    let slow = Fault::NetDelay { delay_ms: 100, jitter_ms: 10, reorder_percent: 0 };
    Ok(vec![
        site.outage("redis_gone", site.db, redis, &["redis"], || site.workers_lack(&["redis"]))?,
        site.outage("db_frozen", site.db, Fault::NodeFreeze, &["postgresql", "redis"], || {
            site.workers_lack(&["postgresql", "redis"])
        })?,
        site.outage("worker_gone", site.worker, third, &["batch-worker@3.service"], || site.all_accepted_are_done())?,
        site.outage("network_slow", site.db, slow, &["network to db"], || site.all_accepted_are_done())?,
    ])
}

/// Waits while `--chaos` injects faults, and until nothing is degraded any more; returns this time as an outage, `None` without
/// `--chaos`.
fn tolerate_faults(site: &Site<'_>) -> e2e::Result<Option<Outage>> {
    let Site { lab, db, .. } = site;
    let began = SystemTime::now();
    let playing = lab.chaos(|chaos| {
        chaos.always("no result vanishes or is there twice", no_result_vanishes(db));
        // The client is the load.
        while chaos.lasts() {
            std::thread::sleep(LOOK);
        }
        Ok(chaos.is_playing())
    })?;
    if !playing {
        return Ok(None);
    }
    let outage = site.chaos(began)?;
    let answers = site.answers()?;
    let amid = |answer: &Answer| answer.began >= began && answer.began < outage.mended && answer.status != 0;
    lab.sometimes("the service answered while faults were played", answers.iter().any(amid))?;
    Ok(Some(outage))
}

/// Checks that every answer came in time, and was correct or truly reported what was missing.
fn judge(lab: &Lab, answers: &[Answer], outages: &[Outage]) -> e2e::Result {
    let bounded = answers.iter().filter(|answer| !answer.may_be_missing(outages));
    let slowest = bounded.map(|answer| answer.took).max().unwrap_or_default();
    lab.log(format!("{} answers, the slowest took {slowest:?}", answers.len()));
    check!(slowest <= BOUND, "no answer keeps the client waiting");
    check!(complaints(answers, outages) == NONE, "every answer is right, or says truly what it lacks");
    Ok(())
}

/// Returns the first ids of the lists of jobs that were accepted.
fn accepted(answers: &[Answer]) -> Vec<u64> {
    let accepted = answers.iter().filter(|answer| answer.kind == Kind::Jobs && answer.status == 202);
    accepted.filter_map(|answer| answer.id).collect()
}

/// Returns the first ids of the lists of jobs that got no answer, and that may have been accepted.
fn unanswered(answers: &[Answer]) -> Vec<u64> {
    let unanswered = answers.iter().filter(|answer| answer.kind == Kind::Jobs && answer.status == 0);
    unanswered.filter_map(|answer| answer.id).collect()
}
