//! From source to output: rows in PostgreSQL on db, a pipeline on app that takes them out with Mancer, files on app.
//!
//! The pipeline is `fixtures/ingest.py`. This program lays the rows out, starts it, and compares what it wrote with what
//! `expectation.rs` works out from the CSV files, and both with what the files' generator knew.

mod expectation;
mod fixture;

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
const NONE: &[&str] = &[];
/// The large case takes 6 s alone on two cores; the rest is for company.
const PIPELINE_DEADLINE: Duration = Duration::from_secs(60);

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
    let loaded =
        psql(&db, DATABASE, "SELECT (SELECT count(*) FROM staging.customers) + (SELECT count(*) FROM staging.orders)")?;
    let rows: u64 = loaded.trim().parse().with_context(|| format!("psql counted {loaded:?} rows"))?;
    check!(rows == expected.summary.customers_read + expected.summary.orders_read, "every row is in the database");

    lab.step("prepare the pipeline", || app.put(lab.fixture("ingest.py"), "/srv/ingestion/ingest.py"))?;
    lab.measure("data_processing", || mancer::run(&app, &["/srv/ingestion/ingest.py", OUTPUT], PIPELINE_DEADLINE))?;

    lab.measure("result_validation", || {
        let found = output(lab, &app)?;
        let here = db.exec(["hostname"])?.success()?.stdout_text()?.trim().to_owned();
        check!(found.source_host == here, "Mancer's SSH backend read on db");
        let differences = expected.differences(&found.outcome);
        check!(differences == NONE, "refused rows, groups and totals are what the fixtures say");
        Ok(())
    })
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

/// What the pipeline wrote on app, kept as artifacts too.
struct Output {
    source_host: String,
    outcome: Outcome,
}

fn output(lab: &Lab, app: &Container) -> e2e::Result<Output> {
    #[derive(Deserialize)]
    struct SummaryFile {
        source_host: String,
        #[serde(flatten)]
        summary: Summary,
    }
    lab.artifact("timings.json", app.get(format!("{OUTPUT}/timings.json"))?)?;
    let SummaryFile { source_host, summary } = json(lab, app, "summary.json")?;
    let (groups, rejected) = (json(lab, app, "groups.json")?, json(lab, app, "rejected.json")?);
    Ok(Output { source_host, outcome: Outcome { summary, groups, rejected } })
}

fn json<T: serde::de::DeserializeOwned>(lab: &Lab, app: &Container, name: &str) -> e2e::Result<T> {
    let text = app.get(format!("{OUTPUT}/{name}"))?;
    lab.artifact(name, &text)?;
    serde_json::from_slice(&text).with_context(|| format!("reading {name} as the pipeline wrote it"))
}
