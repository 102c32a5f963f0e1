//! Monitor as seen from outside: its tables on db, and its status page as another machine gets it.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use common::http;
use common::measured::Operations;
use common::postgres::rows;
use e2e::{Container, Result};
use serde::Deserialize;

/// Row of the table `alerts`.
#[derive(Debug, Clone, Deserialize)]
pub struct Alert {
    machine: String,
    subject: String,
    cause: String,
    #[serde(deserialize_with = "moment")]
    pub raised_at: SystemTime,
    #[serde(deserialize_with = "moment_if_any")]
    pub cleared_at: Option<SystemTime>,
}

impl Alert {
    /// Returns the alert in the words of the page: `worker cron.service is not running`.
    pub fn line(&self) -> String {
        format!("{} {} {}", self.machine, self.subject, self.cause)
    }

    /// Tells whether the faults that `[chaos]` in scenario.toml permits explain the alert: any machine may be unreachable, or have a
    /// process that waits for a processor, and the services of worker start later than worker itself.
    pub fn is_of_a_fault(&self) -> bool {
        self.cause == "does not answer"
            || self.cause.starts_with("is busy as process ")
            || (self.machine == "worker" && self.cause == "is not running")
    }
}

/// Returns all alerts so far, by machine, kind and subject.
pub fn alerts(db: &Container) -> Result<Vec<Alert>> {
    rows(
        db,
        "mancer",
        "SELECT machine, subject, cause, extract(epoch FROM raised_at)::float8 AS raised_at,
                extract(epoch FROM cleared_at)::float8 AS cleared_at
         FROM alerts ORDER BY machine, kind, subject",
    )
}

/// Returns the rounds in which a machine was not sampled, such as `round 7: db`.
pub fn gaps(db: &Container) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Gap {
        round: u64,
        machine: String,
    }
    let gaps: Vec<Gap> = rows(
        db,
        "mancer",
        "SELECT round, machine FROM generate_series(1, (SELECT max(round) FROM samples)) AS round,
                (VALUES ('app'), ('db'), ('worker')) AS machines (machine)
         EXCEPT SELECT round, machine FROM samples WHERE kind = 'load' ORDER BY round, machine",
    )?;
    Ok(gaps.iter().map(|gap| format!("round {}: {}", gap.round, gap.machine)).collect())
}

/// Returns the samples of the first rounds, as Mancer on app reads them: `round 1: db service ssh.service is 1`. Volumes and loads,
/// whose values vary, are given as `well` or with their alarm.
pub fn record(operations: &Operations<'_>, rounds: u64) -> Result<Vec<String>> {
    let query = format!(
        "SELECT concat('round ', round, ': ', machine, ' ', kind, ' ', subject, ' is ',
                       CASE WHEN alarm IS NOT NULL THEN alarm WHEN kind = 'service' THEN value::text ELSE 'well' END)
         FROM samples WHERE round <= {rounds}"
    );
    let mut lines: Vec<String> = operations.perform_with("read", &[query])?;
    lines.sort();
    Ok(lines)
}

/// Status page in the form for programs.
#[derive(Debug, Deserialize)]
pub struct Status {
    pub round: u64,
    /// State of all machines: `ok` or `alarm`.
    pub state: String,
    alerts: Vec<Standing>,
}

#[derive(Debug, Deserialize)]
struct Standing {
    machine: String,
    subject: String,
    cause: String,
}

impl Status {
    /// Returns the active alerts, each in the words of [`Alert::line`].
    pub fn alarms(&self) -> Vec<String> {
        self.alerts.iter().map(|it| format!("{} {} {}", it.machine, it.subject, it.cause)).collect()
    }
}

/// Reads the page for programs from its file, which is quick enough to be repeated often.
pub fn status(app: &Container) -> Result<Status> {
    serde_json::from_slice(&app.get("/srv/monitor/page/status.json")?).context("reading the status file")
}

/// Status page in both its forms, for programs and for people.
#[derive(Debug)]
pub struct Page {
    pub status: Status,
    /// State in the page for people: `ok` or `alarm`, by the class that colors the headline.
    pub html_state: String,
    pub html_alarms: Vec<String>,
    pub html: String,
}

/// Gets both forms of the page by HTTP, as `http://app/status.json` and `http://app/status`.
pub fn page(from: &Container) -> Result<Page> {
    let [json, html] = http::get(from, &["http://app/status.json", "http://app/status"])?;
    let status = serde_json::from_str(&json).with_context(|| format!("reading {json}"))?;
    let headline = between(&html, "<h1 class=\"", "\"").next();
    let html_state = headline.with_context(|| format!("no headline in {html}"))?.to_owned();
    let html_alarms = between(&html, "<li>", "</li>").map(str::to_owned).collect();
    Ok(Page { status, html_state, html_alarms, html })
}

fn between<'a>(text: &'a str, before: &'a str, after: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(move |rest| rest.split(after).next())
}

fn moment<'de, D: serde::Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
    Ok(after_epoch(f64::deserialize(from)?))
}

fn moment_if_any<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.map(after_epoch))
}

fn after_epoch(seconds: f64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds)
}
