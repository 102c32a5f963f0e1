//! Two producers on app hand jobs in without a pause, three workers on worker do them, Redis and PostgreSQL on db keep
//! them: and with `--chaos`, everything that the pipeline must endure is done to it. No accepted job is lost, none is done
//! wrong, none is in the table twice.
//!
//! The case `planted` shows that this would be seen: its workers take jobs off their lists before they have done them
//! (`fixtures/hasty_batch_worker.py`), which is forgotten when one is killed, and at no other time.

use std::time::Duration;

use common::load::{Complaints, Load, TOGETHER, all_done, no_result_vanishes, start_workers};
use common::threads::together;
use e2e::{Container, Lab, Level, check};

const WORKERS: [&str; 3] = ["1", "2", "3"];
/// How often each job is hashed: the 25 that a worker takes keep it busy for some 50 ms.
const ROUNDS: u32 = 3000;
/// What is left is worked off within this; it takes 1 s on an idle machine, 4 s where somebody's jobs are taken over.
const DONE_DEADLINE: Duration = Duration::from_secs(30);

fn main() -> std::process::ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> e2e::Result {
    let (app, db, worker) = (lab.container("app")?, lab.container("db")?, lab.container("worker")?);
    if lab.param("planted")? {
        plant(lab, &worker)?;
    }
    lab.measure("start_workers", || start_workers(&db, &worker, &WORKERS))?;

    let (mut first, mut second) = (Load::new(1, ROUNDS), Load::new(2, ROUNDS));
    let mut accepted_amid_faults = 0;
    lab.chaos(|chaos| {
        chaos.always("no result vanishes or is there twice", no_result_vanishes(&db));
        let goes_on = || chaos.lasts();
        together(|| first.run(lab, &app, goes_on), || second.run(lab, &app, goes_on))?;
        if chaos.is_playing() {
            accepted_amid_faults = first.accepted() + second.accepted();
        } else {
            check!(first.accepted() == TOGETHER && second.accepted() == TOGETHER, "nothing stands in the way");
        }
        Ok(())
    })?;
    lab.sometimes("jobs were accepted while faults were played", accepted_amid_faults > 0)?;

    lab.eventually("every job is done", DONE_DEADLINE, || all_done(&db, &worker, &WORKERS))?;
    judge(lab, &db, &[first, second])
}

/// The workers get the planted bug.
fn plant(lab: &Lab, worker: &Container) -> e2e::Result {
    worker.put(lab.fixture("hasty_batch_worker.py"), "/srv/gauntlet/hasty_batch_worker.py")?;
    worker.put(lab.fixture("hasty.conf"), "/etc/systemd/system/batch-worker@.service.d/hasty.conf")?;
    worker.exec(["systemctl", "daemon-reload"])?.success()?;
    Ok(())
}

fn judge(lab: &Lab, db: &Container, loads: &[Load]) -> e2e::Result {
    let complaints: Vec<Complaints> = loads.iter().map(|load| load.complaints(db)).collect::<e2e::Result<_>>()?;
    for line in complaints.iter().flat_map(|of_one| of_one.lost.iter().chain(&of_one.wrong)) {
        lab.log_at(Level::Error, line);
    }
    let accepted: u64 = loads.iter().map(Load::accepted).sum();
    lab.log(format!("{accepted} jobs were accepted"));
    lab.at_end("no accepted job is lost", || Ok(complaints.iter().all(|of_one| of_one.lost.is_empty())))?;
    lab.at_end("each result is there once, the right one, of a job that was handed in", || {
        Ok(complaints.iter().all(|of_one| of_one.wrong.is_empty()))
    })
}
