//! Scenario of data quality: deliveries of articles on db, some clean, some with bad rows, and some that are unusable as a whole.
//!
//! The quality gate is `fixtures/quality.py`: Mancer on app reads the deliveries over SSH, refuses bad rows with file, line, field and
//! reason, scores each delivery and loads the other rows. This program compares the report with the defects that `fixtures/generate.py`
//! planted and with those that `expectation.rs` computes from the files, and the table with the good rows, field by field. With
//! `--chaos`, the gate is run again and again during faults before that: it may fail then, and where it reports success, the same must
//! hold.

mod csv;
mod expectation;

use std::time::Duration;

use common::differences::differences;
use common::mancer;
use common::measured::Operations;
use common::postgres::psql;
use e2e::{Container, Lab, Port, check};
use expectation::{Delivery, Expected, Finding, Outcome};
use serde::Deserialize;

const DATABASE: &str = "mancer";
const NONE: &[&str] = &[];
/// Deadline of the quality gate, which takes 2 s on an idle machine; the rest is headroom for a loaded machine.
const GATE_DEADLINE: Duration = Duration::from_secs(60);
/// Deadline of an attempt during faults, when an answer may never come.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(8);
/// Manifest of a delivery with 261 rows, some of them bad.
const DIRTY: &str = "south.ini";
/// SQL that empties the table, and ends connections that an earlier run of the gate has left open.
const EMPTY: &str =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mancer'; TRUNCATE articles";
/// Known defects of Mancer that `fixtures/quality.py` works around, with a part of the text of each failure.
const DEFECTS: [(&str, &str); 7] = [
    ("dataframe-changes-values", "'007' became 7.0"),
    ("enforcer-validator", "a validator refused the result, and success is True"),
    ("head-bytes", "unrecognized option '--c=3'"),
    ("logging-flood", "with its logging off a command printed what it read"),
    ("ls-cuts-names", "'north 2024.csv' is listed as ['north']"),
    ("validator-not-detected", "JSON without a named format: Brak odpowiedniego walidatora"),
    ("wrong-byte-loses-output", "exit code -1, output ''"),
];

fn main() -> std::process::ExitCode {
    e2e::Scenario::new(scenario).defects(probes).run()
}

fn scenario(lab: &Lab) -> e2e::Result {
    let (app, db) = (lab.container("app")?, lab.container("db")?);
    let expected = lab.step("work out what must come of the deliveries", || expectation(lab))?;
    db.wait_for(Port(5432))?;
    lab.step("prepare", || prepare(lab, &app, &db, &expected))?;
    probes(lab)?;

    lab.step("tolerate faults", || tolerate_faults(lab, &app, &db, &expected))?;

    let gate = || mancer::report(lab, &app, &["/srv/quality/quality.py"], "quality", GATE_DEADLINE);
    let found: Found = lab.measure("quality_gate", gate)?;
    found.check(&expected, &table(&db)?)?;
    let alone = Expected::read(&lab.fixture(""))?.only(DIRTY);
    let alone = Outcome::of(&lab.fixture("incoming"), &alone)?;
    let operations = Operations::start(lab, &app, "/srv/quality", &[])?;
    lab.measure_n("judge_delivery", 3, || {
        let found: Found = operations.perform_with("check_delivery", &[DIRTY])?;
        let unlike = differences(&alone.findings, &found.findings);
        check!(unlike == NONE && found.deliveries == alone.deliveries, "what is wrong with {DIRTY}, and its score");
        Ok(())
    })?;
    lab.measure_n("load_articles", 3, || {
        let loaded: usize = operations.perform("reload_articles")?;
        check!(loaded == expected.articles.len(), "how many rows the table has when it was loaded again");
        Ok(())
    })?;
    check!(table(&db)? == expected.articles, "the table has the same rows as before it was loaded again");
    Ok(())
}

/// Tries what Mancer is known to do wrong.
fn probes(lab: &Lab) -> e2e::Result {
    mancer::known_defects(lab, &lab.container("app")?, "/srv/quality/probes.py", &DEFECTS)
}

/// Report of `quality.py`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Found {
    deliveries: Vec<Delivery>,
    findings: Vec<Finding>,
    loaded: usize,
}

impl Found {
    /// Checks the report and the rows of the table against the expected outcome.
    fn check(&self, expected: &Outcome, table: &[String]) -> e2e::Result {
        let unlike = differences(&expected.findings, &self.findings);
        check!(unlike == NONE, "each bad row and file is found and named, and no other");
        let unlike = differences(&expected.deliveries, &self.deliveries);
        check!(unlike == NONE, "how many rows of each delivery are accepted, and its score");
        let unlike = differences(&expected.articles, table);
        check!(unlike == NONE, "the table has every good row as it was delivered, and no bad one");
        check!(self.loaded == expected.articles.len(), "what the gate says it has loaded");
        Ok(())
    }
}

/// Runs the gate again and again while `--chaos` injects faults; the table is empty afterwards.
fn tolerate_faults(lab: &Lab, app: &Container, db: &Container, expected: &Outcome) -> e2e::Result {
    let run = || {
        psql(db, DATABASE, EMPTY)?;
        let found = mancer::report(lab, app, &["/srv/quality/quality.py"], "quality", ATTEMPT_DEADLINE)?;
        Ok::<(Found, Vec<String>), e2e::Error>((found, table(db)?))
    };
    lab.chaos(|chaos| {
        chaos.always("the table has all good rows or none", || {
            let rows = table(db)?.len();
            Ok(rows == 0 || rows == expected.articles.len())
        });
        while chaos.lasts() {
            app.wait_for(Port(22))?;
            db.wait_for(Port(5432))?;
            let attempt = lab.invoke("gate", "run", ())?;
            match run() {
                Ok((found, table)) => {
                    found.check(expected, &table)?;
                    attempt.ok(found.loaded)?;
                }
                Err(error) => attempt.unknown(format!("{error:#}"))?,
            }
        }
        Ok(())
    })?;
    psql(db, DATABASE, EMPTY)?;
    Ok(())
}

/// Computes the outcome of the fixtures; checks that `expected.json`, which lists the planted defects, describes them correctly.
fn expectation(lab: &Lab) -> e2e::Result<Outcome> {
    let fixtures = lab.fixture("");
    let planted = Expected::read(&fixtures)?;
    let outcome = Outcome::of(&fixtures.join("incoming"), &planted)?;
    let unlike = differences(&planted.findings, &outcome.findings);
    check!(unlike == NONE, "expected.json names what is wrong in the fixtures");
    let unlike = differences(&planted.deliveries, &outcome.deliveries);
    check!(unlike == NONE, "expected.json counts and scores the fixtures right");
    Ok(outcome)
}

/// Copies the deliveries and makes an empty table on db, and copies the programs to app.
fn prepare(lab: &Lab, app: &Container, db: &Container, expected: &Outcome) -> e2e::Result {
    db.put(lab.fixture("schema.sql"), "/srv/quality/schema.sql")?;
    psql(db, DATABASE, "\\i /srv/quality/schema.sql")?;
    for file in &expected.files {
        db.put(lab.fixture("incoming").join(file), format!("/srv/quality/incoming/{file}"))?;
    }
    app.put(lab.fixture("quality.py"), "/srv/quality/quality.py")
}

/// Reads the rows of the table as CSV with all values in quotes; a missing value has no quotes.
fn table(db: &Container) -> e2e::Result<Vec<String>> {
    let rows = psql(db, DATABASE, "COPY articles TO STDOUT (FORMAT csv, FORCE_QUOTE *)")?;
    Ok(rows.lines().map(str::to_owned).collect())
}
