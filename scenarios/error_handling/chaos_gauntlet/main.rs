//! Scenario of all faults: two producers on app hand in jobs without a pause, three workers on worker do them, and Redis and PostgreSQL
//! on db store them. With `--chaos`, every fault that the pipeline must tolerate is injected. No accepted job may be lost, done wrongly,
//! or duplicated in the table. Without `--chaos`, the same is checked with a few jobs.
//!
//! The case `planted` shows that a loss would be noticed: its workers take jobs off their lists before they have done them
//! (`fixtures/hasty_batch_worker.py`), so that a job is lost when its worker is killed, and at no other time.

use std::fmt::Write as _;

use common::load::{Load, Pipeline};
use common::round::Round;
use e2e::{Container, Lab, check};

const WORKERS: [&str; 3] = ["1", "2", "3"];
/// Number of times that each job is hashed: the 25 jobs that a worker takes keep it busy for some 50 ms.
const ROUNDS: u32 = 3000;
/// Number of jobs that are handed in together, and number of such hand-ins, where only their acceptance is measured.
const TOGETHER: usize = 25;
const HAND_INS: usize = 40;

fn main() -> std::process::ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> e2e::Result {
    let (app, db, worker) = (lab.container("app")?, lab.container("db")?, lab.container("worker")?);
    if lab.param("planted")? {
        plant(lab, &worker)?;
    }
    let pipeline = Pipeline { lab, app: &app, db: &db, worker: &worker, workers: &WORKERS };
    lab.measure("start_workers", || pipeline.start())?;
    let round = Round::new(9, 75, 1000);
    round.run(&app, &db)?; // with their first results the workers connect to PostgreSQL
    lab.measure_n("jobs_through_the_queue", 3, || round.run(&app, &db))?;
    pipeline.wait_until_done()?;
    let hand_ins = hand_ins();
    lab.measure_n("acceptance_of_jobs", 3, || accept(&app, &hand_ins))?;

    pipeline.tolerate_faults(vec![Load::new(1, ROUNDS), Load::new(2, ROUNDS)])
}

/// Returns commands for redis-cli that push jobs to a list that no worker reads, and delete it at the end.
fn hand_ins() -> String {
    let mut commands = String::new();
    for hand_in in 0..HAND_INS {
        commands.push_str("LPUSH untouched");
        for id in 1..=TOGETHER {
            let id = hand_in * TOGETHER + id;
            let _ = write!(commands, r#" '{{"batch":9,"id":{id},"amount_cents":1,"rounds":{ROUNDS}}}'"#);
        }
        commands.push('\n');
    }
    commands + "DEL untouched\n"
}

/// Hands in jobs one group after the other; Redis writes each group to its disk before it answers, and the producer waits for that.
fn accept(app: &Container, hand_ins: &str) -> e2e::Result {
    let answers = app.command(["redis-cli", "-e", "-h", "db"]).stdin(hand_ins).run()?.success()?;
    let lengths = (1..=HAND_INS).map(|hand_in| hand_in * TOGETHER);
    let expected: Vec<String> = lengths.chain([1]).map(|answer| answer.to_string()).collect();
    let answers: Vec<&str> = answers.stdout_text()?.lines().collect();
    check!(answers == expected, "every hand-in was accepted, and the list is gone again");
    Ok(())
}

/// Installs the workers that have the planted bug.
fn plant(lab: &Lab, worker: &Container) -> e2e::Result {
    worker.put(lab.fixture("hasty_batch_worker.py"), "/srv/gauntlet/hasty_batch_worker.py")?;
    worker.put(lab.fixture("hasty.conf"), "/etc/systemd/system/batch-worker@.service.d/hasty.conf")?;
    worker.exec(["systemctl", "daemon-reload"])?.success()?;
    Ok(())
}
