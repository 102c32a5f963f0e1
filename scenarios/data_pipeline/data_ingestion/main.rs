//! From source to output: rows in PostgreSQL on db, a pipeline on app that takes them out with Mancer, files on app.
//!
//! The pipeline is `fixtures/ingest.py`. This program lays the rows out, starts it, and compares what it wrote with what
//! `expectation.rs` works out from the CSV files, and both with what the files' generator knew. With `--chaos`, the pipeline
//! is run again and again amid faults before that: it may fail then, and when it says that it did not, its files are right.

mod expectation;
mod fixture;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use common::mancer;
use common::postgres::psql;
use e2e::{Container, Lab, Port, check};
use expectation::{Outcome, Summary};
use fixture::{Expected, Source};
use serde::Deserialize;

const DATABASE: &str = "ingestion";
const OUTPUT: &str = "/tmp/ingestion";
const ROWS: &str = "SELECT (SELECT count(*) FROM staging.customers) + (SELECT count(*) FROM staging.orders)";
const NONE: &[&str] = &[];
/// The large case takes 6 s alone on two cores; the rest is for company.
const PIPELINE_DEADLINE: Duration = Duration::from_secs(60);
/// Amid faults an answer may never come.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(8);
/// From an attempt that failed to the next.
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

    lab.measure("data_setup", || load(lab, &db, &source))?;
    check!(rows(&db)? == expected.rows(), "every row is in the database");

    lab.step("prepare the pipeline", || app.put(lab.fixture("ingest.py"), "/srv/ingestion/ingest.py"))?;
    lab.step("endure", || endure(lab, &app, &db, &expected))?;
    lab.measure("data_processing", || mancer::run(&app, &["/srv/ingestion/ingest.py", OUTPUT], PIPELINE_DEADLINE))?;

    lab.measure("result_validation", || {
        let files = files(&app)?;
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

/// What `--chaos` plays, while the pipeline is run again and again.
fn endure(lab: &Lab, app: &Container, db: &Container, expected: &Outcome) -> e2e::Result {
    lab.chaos(|chaos| {
        chaos.always("every row is in the database", || Ok(rows(db)? == expected.rows()));
        while chaos.lasts() {
            let attempt = lab.invoke("pipeline", "run", ())?;
            let ran = mancer::run(app, &["/srv/ingestion/ingest.py", OUTPUT], ATTEMPT_DEADLINE);
            match ran.and_then(|()| files(app)) {
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

/// How many rows are in the database.
fn rows(db: &Container) -> e2e::Result<u64> {
    let counted = psql(db, DATABASE, ROWS)?;
    counted.trim().parse().with_context(|| format!("psql counted {counted:?} rows"))
}

/// The rows to load, and what must come of them. The fixtures themselves must be the generator's, byte for byte, and
/// what it knew about them must be what they say.
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

/// A database with the rows as they are, text in text columns, and the rates as a file beside it.
fn load(lab: &Lab, db: &Container, source: &Source) -> e2e::Result {
    db.write("/srv/ingestion/rates.csv", &source.rates)?;
    db.put(lab.fixture("schema.sql"), "/srv/ingestion/schema.sql")?;
    let create = format!("CREATE DATABASE {DATABASE} ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0");
    db.command(["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-c", &create]).user("postgres").run()?.success()?;
    psql(db, DATABASE, "\\i /srv/ingestion/schema.sql")?;
    for (table, csv) in [("customers", &source.customers), ("orders", &source.orders)] {
        let columns = csv.lines().next().unwrap_or_default();
        let copy = format!("COPY staging.{table} ({columns}) FROM STDIN (FORMAT csv, HEADER, ENCODING 'UTF8')");
        db.command(["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", DATABASE, "-c", &copy])
            .user("postgres")
            .stdin(csv.as_bytes())
            .run()?
            .success()?;
    }
    Ok(())
}

/// The files that the pipeline wrote on app, by their names.
type Files = BTreeMap<&'static str, Vec<u8>>;

fn files(app: &Container) -> e2e::Result<Files> {
    let names = ["timings.json", "summary.json", "groups.json", "rejected.json"];
    names.into_iter().map(|name| Ok((name, app.get(format!("{OUTPUT}/{name}"))?))).collect()
}

/// What they say.
struct Output {
    source_host: String,
    outcome: Outcome,
}

fn output(files: &Files) -> e2e::Result<Output> {
    #[derive(Deserialize)]
    struct SummaryFile {
        source_host: String,
        #[serde(flatten)]
        summary: Summary,
    }
    let SummaryFile { source_host, summary } = json(files, "summary.json")?;
    let (groups, rejected) = (json(files, "groups.json")?, json(files, "rejected.json")?);
    Ok(Output { source_host, outcome: Outcome { summary, groups, rejected } })
}

fn json<T: serde::de::DeserializeOwned>(files: &Files, name: &str) -> e2e::Result<T> {
    let text = files.get(name).with_context(|| format!("{name} is not read"))?;
    serde_json::from_slice(text).with_context(|| format!("reading {name} as the pipeline wrote it"))
}
