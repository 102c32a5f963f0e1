//! Scenario of all faults: two producers on app hand in jobs with Mancer without a pause (`fixtures/measured.py`), three workers on
//! worker do them, and Redis and PostgreSQL on db store them. With `--chaos`, every fault that the pipeline must tolerate is injected. No accepted job may be lost, done wrongly,
//! or duplicated in the table. Without `--chaos`, the same is checked with a few jobs.
//!
//! The case `planted` shows that a loss would be noticed: its workers take jobs off their lists before they have done them
//! (`fixtures/hasty_batch_worker.py`), so that a job is lost when its worker is killed, and at no other time.

use common::load::{Load, Pipeline, Producer};
use common::measured::Operations;
use common::round::Round;
use e2e::{Container, Lab, check};
use serde_json::json;

const WORKERS: [&str; 3] = ["1", "2", "3"];
/// Number of times that each job is hashed: the 25 jobs that a worker takes keep it busy for some 50 ms.
const ROUNDS: u32 = 3000;
/// Number of jobs that are handed in together, and number of such hand-ins, where only their acceptance is measured.
const TOGETHER: usize = 25;
const HAND_INS: usize = 20;

fn main() -> std::process::ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> e2e::Result {
    let (app, db, worker) = (lab.container("app")?, lab.container("db")?, lab.container("worker")?);
    if lab.param("planted")? {
        plant(lab, &worker)?;
    }
    start_producers(lab, &app)?;
    let producer = Producer::Mancer(Operations::of(&app));
    let pipeline = Pipeline { lab, producer, db: &db, worker: &worker, workers: &WORKERS };
    lab.measure("start_workers", || pipeline.start())?;
    Round::new(9, 75, 1000).run(&app, &db)?; // with their first results the workers connect to PostgreSQL
    pipeline.wait_until_done()?;
    measure(lab, &Operations::of(&app))?;

    pipeline.tolerate_faults(vec![Load::new(1, ROUNDS), Load::new(2, ROUNDS)])
}

/// Starts the program that hands jobs in, as a service that its machine starts again.
fn start_producers(lab: &Lab, app: &Container) -> e2e::Result {
    Operations::install(lab, app, "/srv/gauntlet")?;
    app.put(lab.fixture("producer.service"), "/etc/systemd/system/producer.service")?;
    app.exec(["systemctl", "enable", "--quiet", "--now", "producer.service"])?.success()?;
    Ok(())
}

/// Measures how Mancer looks at the workers over SSH, and how it hands jobs in to a list that no worker reads: Redis writes each group to
/// its disk before it answers.
fn measure(lab: &Lab, operations: &Operations<'_>) -> e2e::Result {
    operations.perform_with::<Vec<String>>("look_at_workers", &[WORKERS])?; // its connection is there from now on
    lab.measure_n("look_at_workers", 3, || {
        let states: Vec<String> = operations.perform_with("look_at_workers", &[WORKERS])?;
        check!(states == ["idle"; WORKERS.len()], "what each worker says of itself");
        Ok(())
    })?;
    let job = |id| format!(r#"{{"batch":9,"id":{id},"amount_cents":1,"rounds":{ROUNDS}}}"#);
    let groups: Vec<Vec<String>> =
        (0..HAND_INS).map(|group| (1..=TOGETHER).map(|id| job(group * TOGETHER + id)).collect()).collect();
    let expected: Vec<usize> = (1..=HAND_INS).map(|hand_in| hand_in * TOGETHER).collect();
    lab.measure_n("hand_in_jobs", 3, || {
        let lengths: Vec<usize> = operations.perform_with("hand_in_aside", &[json!(groups), json!("10")])?;
        check!(lengths == expected, "every hand-in was accepted");
        Ok(())
    })
}

/// Installs the workers that have the planted bug.
fn plant(lab: &Lab, worker: &Container) -> e2e::Result {
    worker.put(lab.fixture("hasty_batch_worker.py"), "/srv/gauntlet/hasty_batch_worker.py")?;
    worker.put(lab.fixture("hasty.conf"), "/etc/systemd/system/batch-worker@.service.d/hasty.conf")?;
    worker.exec(["systemctl", "daemon-reload"])?.success()?;
    Ok(())
}
