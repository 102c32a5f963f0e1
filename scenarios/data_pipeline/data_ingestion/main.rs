//! Scenario of data ingestion: rows in PostgreSQL on db are read by a pipeline on app with Mancer, and written to files on app.
//!
//! The pipeline is `fixtures/ingest.py`. This program loads the rows, starts the pipeline, and compares its output with the result that
//! `expectation.rs` computes from the CSV files, and both with the generator's `expected.json`. Before that, a small batch, the same in
//! each case, is processed, and with `--chaos` the pipeline is run again and again during faults: it may fail then, and where it reports
//! success, its files must be correct.

mod expectation;
mod fixture;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::mancer;
use common::measured::Operations;
use common::postgres::psql;
use e2e::{Better, Container, Lab, Port, check};
use expectation::{Group, Outcome, Rejected, Summary};
use fixture::{Expected, Source};
use serde::Deserialize;

const DATABASE: &str = "ingestion";
const OUTPUT: &str = "/tmp/ingestion";
/// Name of the database of a small batch, which has the same number of rows in every case.
const BATCH_DATABASE: &str = "batch";
const BATCH_OUTPUT: &str = "/tmp/batch";
const BATCH_CUSTOMERS: usize = 200;
const BATCH_ORDERS: usize = 2_000;
const ROWS: &str = "SELECT (SELECT count(*) FROM staging.customers) + (SELECT count(*) FROM staging.orders)";
const NONE: &[&str] = &[];
/// Deadline of the pipeline: the large case takes 6 s on two idle cores; the rest is headroom for a loaded machine.
const PIPELINE_DEADLINE: Duration = Duration::from_secs(60);
/// Deadline of an attempt during faults, when an answer may never come.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(8);
/// Pause between a failed attempt and the next.
const PAUSE: Duration = Duration::from_millis(200);

fn main() -> std::process::ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> e2e::Result {
    let (app, db) = (lab.container("app")?, lab.container("db")?);
    let copies: u64 = lab.param("copies")?;

    let (source, expected) = lab.step("work out what must come of the fixtures", || expectation(lab, copies))?;
    db.wait_for(Port(5432))?;
    db.wait_for(Port(22))?;

    lab.measure("data_setup", || load(lab, &db, DATABASE, &source))?;
    check!(rows(&db)? == expected.rows(), "every row is in the database");

    lab.step("prepare the pipeline", || app.put(lab.fixture("ingest.py"), "/srv/ingestion/ingest.py"))?;
    lab.step("tolerate faults", || tolerate_faults(lab, &app, &db, &expected))?;
    lab.step("small batches", || small_batches(lab, &app, &db))?;
    let started = Instant::now();
    lab.measure("data_processing", || mancer::run(&app, &["/srv/ingestion/ingest.py", OUTPUT], PIPELINE_DEADLINE))?;
    let rows_per_second = expected.rows() as f64 / started.elapsed().as_secs_f64();
    lab.metric("throughput", rows_per_second, "rows/s", Better::Higher)?;

    lab.measure("result_validation", || {
        let files = files(&app, OUTPUT)?;
        for (name, text) in &files {
            lab.artifact(*name, text)?;
        }
        let found = output(&files)?;
        let here = db.exec(["hostname"])?.success()?.stdout_text()?.trim().to_owned();
        check!(found.source_host == here, "Mancer's SSH backend read on db");
        let differences = expected.differences(&found.outcome);
        check!(differences == NONE, "refused rows, groups and totals are what the fixtures say");
        Ok(())
    })
}

/// Runs the pipeline again and again while `--chaos` injects faults.
fn tolerate_faults(lab: &Lab, app: &Container, db: &Container, expected: &Outcome) -> e2e::Result {
    lab.chaos(|chaos| {
        chaos.always("every row is in the database", || Ok(rows(db)? == expected.rows()));
        while chaos.lasts() {
            let attempt = lab.invoke("pipeline", "run", ())?;
            let ran = mancer::run(app, &["/srv/ingestion/ingest.py", OUTPUT], ATTEMPT_DEADLINE);
            match ran.and_then(|()| files(app, OUTPUT)) {
                Ok(files) => {
                    let differences = expected.differences(&output(&files)?.outcome);
                    check!(differences == NONE, "a run that succeeded amid faults has written what the fixtures say");
                    attempt.ok(())?;
                }
                Err(error) => {
                    attempt.unknown(format!("{error:#}"))?;
                    std::thread::sleep(PAUSE); // as whoever runs it would: perhaps its machine is down
                }
            }
        }
        Ok(())
    })
}

/// Measures a small batch such as a pipeline gets every few minutes: Mancer reads it over SSH and by a psql on app, and makes a table of
/// its rows.
fn small_batches(lab: &Lab, app: &Container, db: &Container) -> e2e::Result {
    // Once is enough: it is the same in each case, and the large one needs the memory for itself.
    if lab.case() != "small" {
        return Ok(());
    }
    let batch = Source::read(&lab.fixture(""))?.first(BATCH_CUSTOMERS, BATCH_ORDERS);
    let expected = Outcome::of(&batch)?;
    load(lab, db, BATCH_DATABASE, &batch)?;
    let operations = Operations::start(lab, app, "/srv/ingestion", &[BATCH_OUTPUT, BATCH_DATABASE])?;
    let mut rates = BTreeMap::new();
    for (_, [currency, micros]) in fixture::rows("rates.csv", &batch.rates)? {
        rates.insert(currency.to_owned(), micros.parse::<u64>()?);
    }
    let of_dollar = batch.rates.lines().filter(|line| line.starts_with("USD,")).collect::<String>() + "\n";
    lab.measure_n("read_rates", 3, || {
        let read: (BTreeMap<String, u64>, String) = operations.perform_with("read_rates", &["USD"])?;
        check!(read.0 == rates && read.1 == of_dollar, "the rates that Mancer reads on db, all and one");
        Ok(())
    })?;
    lab.measure_n("ingest_rows", 3, || {
        let found: Ingested = operations.perform("ingest_batch")?;
        check!(found.summary.source_host == "db", "Mancer's SSH backend read on db");
        let differences = expected.differences(&found.outcome());
        check!(differences == NONE, "what comes of the batch");
        Ok(())
    })?;
    let units = units_by_category(&batch)?;
    lab.measure_n("add_up_rows", 3, || {
        let sums: BTreeMap<String, u64> = operations.perform("add_up_batch")?;
        check!(sums == units, "the units of each category in the table that Mancer made");
        Ok(())
    })
}

/// Adds up the quantities of all orders by category, as far as they are numbers.
fn units_by_category(source: &Source) -> e2e::Result<BTreeMap<String, u64>> {
    let mut units = BTreeMap::new();
    for (_, [_, _, _, category, _, quantity, _]) in fixture::rows("orders.csv", &source.orders)? {
        if let Ok(quantity) = quantity.parse::<u64>() {
            *units.entry(category.to_owned()).or_default() += quantity;
        }
    }
    Ok(units)
}

/// Returns the number of rows in the database.
fn rows(db: &Container) -> e2e::Result<u64> {
    let counted = psql(db, DATABASE, ROWS)?;
    counted.trim().parse().with_context(|| format!("psql printed {counted:?} as the number of rows"))
}

/// Returns the rows to load, and the expected outcome. Checks that the fixtures are the generator's, byte for byte, and that
/// `expected.json` describes them correctly.
fn expectation(lab: &Lab, copies: u64) -> e2e::Result<(Source, Outcome)> {
    let fixtures = lab.fixture("");
    let (source, known) = (Source::read(&fixtures)?, Expected::read(&fixtures)?);
    let changed = known.changed(&source);
    check!(changed == NONE, "no byte of the fixtures has changed since generate.py wrote them");
    let differences = known.outcome.differences(&Outcome::of(&source)?);
    check!(differences == NONE, "expected.json is true of the fixtures");

    let source = source.multiplied(copies)?;
    let outcome = Outcome::of(&source)?;
    check!(
        outcome.summary.orders_accepted == copies * known.outcome.summary.orders_accepted,
        "good orders in all copies"
    );
    check!(outcome.summary.revenue_cents == copies * known.outcome.summary.revenue_cents, "revenue of all copies");
    Ok((source, outcome))
}

/// Creates a database with the rows unchanged in text columns, and puts the exchange rates as a file beside it.
fn load(lab: &Lab, db: &Container, database: &str, source: &Source) -> e2e::Result {
    db.write("/srv/ingestion/rates.csv", &source.rates)?;
    db.put(lab.fixture("schema.sql"), "/srv/ingestion/schema.sql")?;
    let create = format!("CREATE DATABASE {database} ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0");
    db.command(["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-c", &create]).user("postgres").run()?.success()?;
    psql(db, database, "\\i /srv/ingestion/schema.sql")?;
    for (table, csv) in [("customers", &source.customers), ("orders", &source.orders)] {
        let columns = csv.lines().next().unwrap_or_default();
        let copy = format!("COPY staging.{table} ({columns}) FROM STDIN (FORMAT csv, HEADER, ENCODING 'UTF8')");
        db.command(["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", &copy])
            .user("postgres")
            .stdin(csv.as_bytes())
            .run()?
            .success()?;
    }
    Ok(())
}

/// Files that the pipeline wrote on app, by name.
type Files = BTreeMap<&'static str, Vec<u8>>;

fn files(app: &Container, folder: &str) -> e2e::Result<Files> {
    let names = ["timings.json", "summary.json", "groups.json", "rejected.json"];
    names.into_iter().map(|name| Ok((name, app.get(format!("{folder}/{name}"))?))).collect()
}

/// Totals as the pipeline gives them, with the host that it read on.
#[derive(Deserialize)]
struct SummaryFile {
    source_host: String,
    #[serde(flatten)]
    summary: Summary,
}

/// Answer of `measured.py` for a batch.
#[derive(Deserialize)]
struct Ingested {
    summary: SummaryFile,
    groups: Vec<Group>,
    rejected: Vec<Rejected>,
}

impl Ingested {
    fn outcome(self) -> Outcome {
        Outcome { summary: self.summary.summary, groups: self.groups, rejected: self.rejected }
    }
}

/// Parsed content of the files that the pipeline wrote.
struct Output {
    source_host: String,
    outcome: Outcome,
}

fn output(files: &Files) -> e2e::Result<Output> {
    let summary: SummaryFile = json(files, "summary.json")?;
    let (groups, rejected) = (json(files, "groups.json")?, json(files, "rejected.json")?);
    let source_host = summary.source_host.clone();
    Ok(Output { source_host, outcome: Ingested { summary, groups, rejected }.outcome() })
}

fn json<T: serde::de::DeserializeOwned>(files: &Files, name: &str) -> e2e::Result<T> {
    let text = files.get(name).with_context(|| format!("the file {name} was not read from app"))?;
    serde_json::from_slice(text).with_context(|| format!("reading {name} as the pipeline wrote it"))
}
