//! Two producers on app hand jobs in without a pause, three workers on worker do them, Redis and PostgreSQL on db keep
//! them: and with `--chaos`, everything that the pipeline must endure is done to it. No accepted job is lost, none is done
//! wrong, none is in the table twice. Without it, the same is checked of a few jobs.
//!
//! The case `planted` shows that a loss would be seen: its workers take jobs off their lists before they have done them
//! (`fixtures/hasty_batch_worker.py`), so that a job is lost when its worker is killed, and at no other time.

use common::load::{Load, Pipeline};
use e2e::{Container, Lab};

const WORKERS: [&str; 3] = ["1", "2", "3"];
/// How often each job is hashed: the 25 that a worker takes keep it busy for some 50 ms.
const ROUNDS: u32 = 3000;

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
    pipeline.endure(vec![Load::new(1, ROUNDS), Load::new(2, ROUNDS)])
}

/// The workers get the planted bug.
fn plant(lab: &Lab, worker: &Container) -> e2e::Result {
    worker.put(lab.fixture("hasty_batch_worker.py"), "/srv/gauntlet/hasty_batch_worker.py")?;
    worker.put(lab.fixture("hasty.conf"), "/etc/systemd/system/batch-worker@.service.d/hasty.conf")?;
    worker.exec(["systemctl", "daemon-reload"])?.success()?;
    Ok(())
}
