//! Scenario of batch processing: 5 batches of 1,000 transactions are processed by one worker, by three, and by three of which one is
//! killed.
//!
//! The run is `fixtures/batch.py`: Mancer on app fills the queue in Redis on db, starts the workers, waits, and sums up their results in
//! PostgreSQL. This program compares the results with those that `expectation.rs` computes from the CSV file, and measures the workers'
//! resources while they run and after they have ended. With `--chaos`, the workers are started again at the end, and do more jobs during
//! faults.

mod expectation;
mod resources;
mod site;

use common::load::{Load, Pipeline, Producer};
use common::mancer;
use common::measured::Operations;
use common::round::Round;
use common::threads::together;
use e2e::{Better, Lab, check};
use expectation::{Results, Sum};
use resources::{Machine, restarts};
use serde::Deserialize;
use site::{Run, Site};

/// Known defects of Mancer that `fixtures/batch.py` works around, with a part of the text of each failure.
const DEFECTS: [(&str, &str); 2] = [
    ("pipe-into-bash", "6 bytes were piped in, 0 arrived, and success is True"),
    ("use-sudo", "ran as user 1000: success"),
];
const NONE: &[&str] = &[];
const WORKERS: u32 = 3;
/// Limits of the machine worker, as containers/worker/template.toml sets them.
const MEMORY_LIMIT_BYTES: u64 = 512 << 20;
const PROCESSORS_LIMIT: f64 = 3.0;
/// Permitted growth of the machine's own memory usage during the run, such as for its journal.
const MEMORY_MARGIN_BYTES: u64 = 16 << 20;
/// Number of processors from which on three workers must be faster than one, by the factor [`SPEEDUP_MIN`].
const PROCESSORS_TO_JUDGE_FROM: usize = 4;
const SPEEDUP_MIN: f64 = 1.5;
const PAIRS_MAX: usize = 3;

fn main() -> std::process::ExitCode {
    e2e::Scenario::new(scenario).defects(probes).run()
}

fn scenario(lab: &Lab) -> e2e::Result {
    let site = Site::of(lab)?;
    let expected = lab.step("prepare", || prepare(lab, &site))?;
    let before = Machine::of(&site.worker)?;

    let one = lab.measure("process_with_one_worker", || site.process("one_worker", 1))?;
    check_run(&site, &one, &expected)?;
    site.clear()?;
    let three = lab.measure("process_with_three_workers", || site.process("three_workers", WORKERS))?;
    check_run(&site, &three, &expected)?;
    check!(three.by_worker.len() == 3, "each of the three took part");
    check!(restarts(&site.worker, WORKERS)? == [0, 0, 0], "no worker failed");
    judge(lab, &site, &one, &three)?;
    check!(site.sums()? == expected.sums(), "the sums that a reader on app gets");
    check!(expected.differences(&site.results_on_app()?)? == NONE, "the results that a reader on app gets");
    measure(lab, &site, &expected)?;

    site.clear()?;
    let killed = lab.measure("process_with_a_killed_worker", || site.process_with_a_kill())?;
    check_run(&site, &killed, &expected)?;
    check!(restarts(&site.worker, WORKERS)? == [0, 1, 0], "the killed worker is back, the others never left");

    // The defects are shown while the machines have nothing else to do.
    together(|| probes(lab), || lab.measure("stop_workers", || site.stop()))?;
    lab.step("see what is left", || check_returned(lab, &site, &before))?;
    lab.step("tolerate faults", || tolerate_faults(lab, &site))
}

/// Tries what Mancer is known to do wrong.
fn probes(lab: &Lab) -> e2e::Result {
    mancer::known_defects(lab, &lab.container("app")?, "/srv/batch/probes.py", &DEFECTS)
}

/// Measures how Mancer asks for the workers over SSH, and reads their results in a shell on app.
fn measure(lab: &Lab, site: &Site, expected: &Results) -> e2e::Result {
    #[derive(Deserialize)]
    struct Read {
        #[serde(flatten)]
        sum: Sum,
        transactions: u64,
    }
    let operations = Operations::start(lab, &site.app, "/srv/batch", &[&WORKERS.to_string()])?;
    lab.measure_n("look_at_workers", 3, || {
        let states: Vec<String> = operations.perform("look_at_workers")?;
        check!(states == ["active"; WORKERS as usize], "the state of each worker");
        Ok(())
    })?;
    lab.measure_n("sum_up_results", 3, || {
        let read: Vec<Read> = operations.perform("sum_up_results")?;
        check!(
            read.iter().all(|of_batch| of_batch.transactions == of_batch.sum.records),
            "a result for each transaction"
        );
        let sums: Vec<Sum> = read.into_iter().map(|of_batch| of_batch.sum).collect();
        check!(sums == expected.sums(), "the sums that Mancer reads");
        Ok(())
    })?;
    operations.stop()
}

/// Sets up the machines; returns the expected results of the transactions.
fn prepare(lab: &Lab, site: &Site) -> e2e::Result<Results> {
    let transactions = lab.fixture("transactions.csv");
    let (expected, ()) = together(|| Results::of(&transactions, site.rounds), || site.prepare(&lab.fixture("")))?;
    Ok(expected)
}

/// Checks that every record has exactly one result, the correct one, that Mancer read the correct sums, and that nothing is left in Redis
/// except the workers' heartbeats.
fn check_run(site: &Site, run: &Run, expected: &Results) -> e2e::Result {
    check!(run.jobs == expected.len(), "every transaction was queued");
    let differences = expected.differences(&site.results()?)?;
    check!(differences == NONE, "the table holds the result of every transaction once, and nothing else");
    check!(run.batches == expected.sums(), "the sums that Mancer read");
    let keys = site.redis_keys()?;
    check!(keys.iter().all(|key| key.starts_with("alive:")), "no job is left in a queue, keys: {keys:?}");
    Ok(())
}

/// Checks and records speed, memory and processor time of undisturbed runs.
fn judge(lab: &Lab, site: &Site, one: &Run, three: &Run) -> e2e::Result {
    let peak_bytes = Machine::of(&site.worker)?.peak_bytes;
    check!(peak_bytes < MEMORY_LIMIT_BYTES, "all processes of worker at their largest fit into its memory");
    for run in [one, three] {
        check!(run.processors_used() < PROCESSORS_LIMIT, "{} workers within worker's processors", run.workers);
    }
    let processors = std::thread::available_parallelism()?.get();
    let mut best = [one, three].map(Run::records_per_second);
    if processors >= PROCESSORS_TO_JUDGE_FROM {
        // Company on the host can only slow a run down: where there is no gain, the best of several runs is looked at.
        for _ in 1..PAIRS_MAX {
            if best[1] > best[0] * SPEEDUP_MIN {
                break;
            }
            let again = site.process_again()?;
            best = [best[0].max(again[0].records_per_second()), best[1].max(again[1].records_per_second())];
        }
    }
    let speedup = best[1] / best[0];
    lab.metric("throughput_of_one_worker", best[0], "records/s", Better::Higher)?;
    lab.metric("throughput_of_three_workers", best[1], "records/s", Better::Higher)?;
    let report = serde_json::json!({
        "host_processors": processors, "speedup": speedup, "peak_bytes": peak_bytes,
        "one_worker": one.report(), "three_workers": three.report(),
    });
    lab.artifact("throughput.json", serde_json::to_vec_pretty(&report)?)?;
    let said = format!(
        "{:.0} records/s with one worker, {:.0} with three: {speedup:.2} times as many, on {processors} processors",
        best[0], best[1]
    );
    lab.log(said.as_str());
    check!(processors < PROCESSORS_TO_JUDGE_FROM || speedup > SPEEDUP_MIN, "three workers are faster: {said}");
    Ok(())
}

/// Checks that the workers have ended, and that all their resources on the three machines are free again.
fn check_returned(lab: &Lab, site: &Site, before: &Machine) -> e2e::Result {
    // Connections end when the other side has noticed, and Mancer's SSH sessions end by themselves.
    lab.eventually("no process of a worker is left", site::SOON, || {
        Ok(Machine::of(&site.worker)?.mancers_processes == before.mancers_processes)
    })?;
    lab.eventually("no connection to PostgreSQL is left", site::SOON, || Ok(site.database_clients()? == 0))?;
    lab.eventually("no connection to Redis is left", site::SOON, || Ok(site.redis_clients()?.is_empty()))?;
    let anonymous_bytes_allowed = before.anonymous_bytes + MEMORY_MARGIN_BYTES;
    check!(Machine::of(&site.worker)?.anonymous_bytes < anonymous_bytes_allowed, "their memory is free again");
    check!(site.redis_keys()?.is_empty(), "a worker that is stopped leaves nothing in Redis");
    Ok(())
}

/// Hands jobs in while `--chaos` injects faults; without Mancer, which retries nothing that failed.
fn tolerate_faults(lab: &Lab, site: &Site) -> e2e::Result {
    let Site { app, db, worker, rounds, .. } = site;
    site.clear()?;
    let pipeline = Pipeline { lab, producer: Producer::RedisCli(app), db, worker, workers: &["1", "2", "3"] };
    pipeline.start()?;
    let round = Round::new(9, 100, *rounds);
    round.run(app, db)?; // with their first results the workers connect to PostgreSQL
    pipeline.wait_until_done()?;
    pipeline.tolerate_faults(vec![Load::new(1, *rounds)])
}
