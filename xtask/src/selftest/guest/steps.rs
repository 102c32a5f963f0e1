//! Steps of an order, run on the host of this process by the engine's own command line.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use serde_json::Value;

use super::host::Host;
use super::kills;
use super::order::{Faults, Order, Run};
use super::record::{Case, Doctor, Fault, FaultResult, HostRecord, Phase, Problem, one_line};
use crate::host::exec::shell::Command;
use crate::host::patience::Deadline;

const DOCTOR_DEADLINE: Deadline = Deadline::from_secs(30);
const RUN_DEADLINE: Deadline = Deadline::from_secs(600);
const LIST_DEADLINE: Deadline = Deadline::from_secs(30);
const FAULT_DEADLINE: Deadline = Deadline::from_secs(60);

/// Runs an order, and writes and returns its record. Results that are failures do not prevent the record.
pub fn carry_out(order: &Order, say: &dyn Fn(&str)) -> anyhow::Result<HostRecord> {
    let engine = Engine::new(order)?;
    let mut record = HostRecord::new(&order.name, Host::of_this_machine(&order.machine));
    if let Some(uptime_s) = uptime_s().filter(|_| order.has_host) {
        record.phases.push(Phase { name: format!("guest {}: boot", order.guest), duration_s: uptime_s });
    }
    let timed = |record: &mut HostRecord, name: &str, step: &mut dyn FnMut(&mut HostRecord)| {
        say(&format!("==> {name}"));
        let begun = Instant::now();
        step(record);
        let duration_s = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        say(&format!("==> {name}: {duration_s:.1} s"));
        record.phases.push(Phase { name: format!("guest {}: {name}", order.guest), duration_s });
    };
    if let Some(root) = &order.doctor {
        timed(&mut record, "doctor", &mut |record| record.doctor = Some(engine.doctor(root)));
    }
    for run in &order.runs {
        let name = format!("e2e {}", run.words.join(" "));
        timed(&mut record, &name, &mut |record| record.cases.extend(engine.cases(run, say)));
    }
    if let Some(faults) = &order.faults {
        timed(&mut record, "faults", &mut |record| record.faults = engine.faults(faults, say));
    }
    if order.kills > 0 {
        let sweep = kills::Sweep {
            engine: &engine.program,
            project: &order.kills_in,
            slot: &order.slot,
            state_dir: &order.state_dir,
            has_host: order.has_host,
            kills: order.kills,
        };
        timed(&mut record, "kill sweep", &mut |record| record.kills = Some(sweep.carry_out(say)));
    }
    std::fs::write(&order.record, record.json()?).with_context(|| format!("writing {}", order.record.display()))?;
    Ok(record)
}

/// The engine's program, started as a user starts it.
struct Engine {
    program: PathBuf,
    slot: String,
}

impl Engine {
    fn new(order: &Order) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding the engine's own program")?;
        Ok(Self { program, slot: order.slot.clone() })
    }

    fn command(&self, root: &Path) -> Command {
        Command::new(&self.program).arg("--root").arg(root).dir("/")
    }

    fn doctor(&self, root: &Path) -> Doctor {
        let command = self.command(root).args(["--format", "json", "doctor"]);
        let answer = answer_of(&command.deadline(DOCTOR_DEADLINE.scaled()));
        match answer.and_then(|answer| parse_doctor(&answer)) {
            Ok(doctor) => doctor,
            Err(why) => Doctor {
                ok: 0,
                warnings: Vec::new(),
                failures: vec![Problem { check: "doctor".to_owned(), seen: one_line(&why) }],
            },
        }
    }

    fn cases(&self, run: &Run, say: &dyn Fn(&str)) -> Vec<Case> {
        let command = self
            .command(&run.project.root)
            .args(["e2e", "--slot", &self.slot, "--progress", "plain"])
            .arg("--binaries")
            .arg(&run.project.programs)
            .args(&run.words)
            .deadline(RUN_DEADLINE.scaled());
        let latest = run.project.root.join("target/e2e/latest/run.json");
        let before = std::fs::read_link(latest.parent().unwrap_or(&latest)).ok();
        let ended = command.output();
        let after = std::fs::read_link(latest.parent().unwrap_or(&latest)).ok();
        // A run that did not begin leaves the one before it as the latest.
        let record = if before == after { None } else { std::fs::read_to_string(&latest).ok() };
        let cases = record.and_then(|text| parse_cases(&text, run.is_systemd));
        // The guest's files go with it: what the run said of a failure is told on its console.
        if let (false, Ok(output)) = (cases.iter().flatten().all(|case| case.passed), &ended) {
            let said = [&output.stderr, &output.stdout].map(|stream| String::from_utf8_lossy(stream).into_owned());
            said.iter().flat_map(|text| text.lines()).for_each(|line| say(&format!("    {line}")));
        }
        match (cases, ended) {
            (Some(cases), _) if !cases.is_empty() => cases,
            (_, ended) => {
                let reason = match ended {
                    Ok(output) => last_line(&output.stderr)
                        .unwrap_or_else(|| format!("ended with status {} and said nothing", output.status)),
                    Err(error) => one_line(&error.to_string()),
                };
                vec![Case {
                    case: run.words.join(" "),
                    is_systemd: run.is_systemd,
                    passed: false,
                    reason: Some(reason),
                    duration_s: 0.0,
                }]
            }
        }
    }

    fn faults(&self, faults: &Faults, say: &dyn Fn(&str)) -> Vec<Fault> {
        let listed =
            self.command(&faults.project).args(["--format", "json", "fault", "list"]).deadline(LIST_DEADLINE.scaled());
        let catalogue = match answer_of(&listed).and_then(|answer| parse_catalogue(&answer)) {
            Ok(catalogue) => catalogue,
            Err(why) => return vec![result("fault list", FaultResult::Failed, one_line(&why))],
        };
        let mut families: Vec<(&str, usize)> = Vec::new();
        for entry in &catalogue {
            match families.iter_mut().find(|(family, _)| *family == entry.family()) {
                Some((_, count)) => *count += 1,
                None => families.push((entry.family(), 1)),
            }
        }
        let own = faults.share.of_families(&families);
        let mut results: Vec<Fault> = Vec::new();
        for (family, _) in families.iter().filter(|(family, _)| own.contains(family)) {
            let (wanted, left_out): (Vec<&Entry>, Vec<&Entry>) = catalogue
                .iter()
                .filter(|entry| entry.family() == *family)
                .partition(|entry| faults.has_systemd || !entry.needs_systemd);
            // One process for a whole family starts the engine once; what it did not come to is tried alone.
            if left_out.is_empty() && wanted.len() > 1 {
                let count = u32::try_from(wanted.len()).unwrap_or(1);
                results.extend(self.try_fault(&faults.project, family, count).unwrap_or_default());
            }
            for entry in wanted {
                if !results.iter().any(|it| it.fault == entry.name) {
                    match self.try_fault(&faults.project, &entry.name, 1) {
                        Ok(tried) => results.extend(tried),
                        Err(why) => results.push(result(&entry.name, FaultResult::Failed, one_line(&why))),
                    }
                }
            }
            let of_family =
                results.iter().filter(|it| catalogue.iter().any(|e| e.name == it.fault && e.family() == *family));
            for fault in of_family {
                say(&format!("    {} {:?} {}", fault.fault, fault.result, fault.reason.as_deref().unwrap_or_default()));
            }
        }
        let why_not = |entry: &Entry| {
            if entry.needs_systemd && !faults.has_systemd {
                "no machine with systemd in the project of these tests".to_owned()
            } else {
                "tried on another guest".to_owned()
            }
        };
        let row = |entry: &Entry| {
            let found = results.iter().find(|it| it.fault == entry.name).cloned();
            found.unwrap_or_else(|| result(&entry.name, FaultResult::NotTried, why_not(entry)))
        };
        catalogue.iter().map(row).collect()
    }

    fn try_fault(&self, project: &Path, name: &str, count: u32) -> Result<Vec<Fault>, String> {
        let command = self
            .command(project)
            .args(["--format", "json", "fault", "try", name, "--slot", &self.slot])
            .deadline(FAULT_DEADLINE.scaled() * count);
        parse_trials(&answer_of(&command)?)
    }
}

/// Returns the standard output of a command, whatever its exit status; the error is the reason why it printed nothing.
fn answer_of(command: &Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let text = output.text();
    if text.is_empty() {
        let silent = || format!("`{command}` ended with status {} and said nothing", output.status);
        return Err(last_line(&output.stderr).unwrap_or_else(silent));
    }
    Ok(text)
}

/// Returns the first line of a stream that begins with `error: `, else the stream's last line.
fn last_line(stream: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stream);
    let error = text.lines().find(|line| line.starts_with("error: "));
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    error.or(last).map(one_line)
}

fn uptime_s() -> Option<f64> {
    std::fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()
}

fn result(fault: &str, result: FaultResult, reason: String) -> Fault {
    Fault { fault: fault.to_owned(), result, reason: Some(reason), inject_ms: None, heal_ms: None }
}

fn parse_doctor(answer: &str) -> Result<Doctor, String> {
    let value: Value = serde_json::from_str(answer).map_err(|error| error.to_string())?;
    let findings = value["findings"].as_array().ok_or("doctor's answer has no findings")?;
    let with = |status: &'static str| findings.iter().filter(move |it| it["status"] == status);
    let problems = |status| {
        let problem = |it: &Value| Problem { check: text(&it["check"]), seen: one_line(&text(&it["seen"])) };
        with(status).map(problem).collect()
    };
    Ok(Doctor { ok: with("ok").count(), warnings: problems("warning"), failures: problems("failure") })
}

fn parse_cases(record: &str, is_systemd: bool) -> Option<Vec<Case>> {
    let value: Value = serde_json::from_str(record).ok()?;
    let case = |it: &Value| {
        let attempts = it["attempts"].as_array().cloned().unwrap_or_default();
        let total_ms: f64 = attempts.iter().filter_map(|attempt| attempt["duration_ms"].as_f64()).sum();
        let passed = it["verdict"] == "passed" && attempts.len() == 1;
        let outcomes = attempts.iter().map(outcome);
        let bad: Vec<String> = outcomes.filter(|outcome| outcome != "passed").collect();
        Case {
            case: text(&it["case"]),
            is_systemd,
            passed,
            reason: (!passed).then(|| if bad.is_empty() { text(&it["verdict"]) } else { bad.join("; then ") }),
            duration_s: (total_ms / 100.0).round() / 10.0,
        }
    };
    Some(value["cases"].as_array()?.iter().map(case).collect())
}

/// Returns the outcome of an attempt in one line: its kind, with its message if it has one.
fn outcome(value: &Value) -> String {
    let kind = value["outcome"].as_str().unwrap_or("no outcome");
    let message = [&value["message"], &value["cause"]["message"]].into_iter().find_map(Value::as_str);
    let cause = [&value["cause"]["cause"], &value["cause"]].into_iter().find_map(Value::as_str);
    match (message, cause) {
        (Some(message), _) => one_line(&format!("{kind}: {message}")),
        (None, Some(cause)) => format!("{kind}: {cause}"),
        (None, None) => kind.to_owned(),
    }
}

/// Fault in the JSON that `fault list` prints.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    needs_systemd: bool,
}

impl Entry {
    fn family(&self) -> &str {
        self.name.split('.').next().unwrap_or(&self.name)
    }
}

fn parse_catalogue(answer: &str) -> Result<Vec<Entry>, String> {
    let value: Value = serde_json::from_str(answer).map_err(|error| error.to_string())?;
    let rows = value["faults"].as_array().ok_or("`fault list` has no faults")?;
    Ok(rows.iter().map(|row| Entry { name: text(&row["fault"]), needs_systemd: row["needs"] == "systemd" }).collect())
}

fn parse_trials(answer: &str) -> Result<Vec<Fault>, String> {
    let value: Value = serde_json::from_str(answer).map_err(|error| error.to_string())?;
    let rows = value.as_array().or_else(|| value["faults"].as_array()).ok_or("`fault try` has no list of trials")?;
    Ok(rows.iter().map(trial).collect())
}

fn trial(row: &Value) -> Fault {
    let is = |name: &str| row[name].as_bool().unwrap_or(false);
    let (result, reason) = match (is("supported"), is("bites"), is("healed")) {
        (false, ..) => (FaultResult::NotApplicable, &row["evidence"]),
        (true, false, _) => (FaultResult::Failed, &row["evidence"]),
        (true, true, false) => (FaultResult::Failed, &row["after"]),
        (true, true, true) => (FaultResult::Works, &Value::Null),
    };
    let reason = (result != FaultResult::Works).then(|| one_line(&text(reason)));
    let rounded = |name: &str| row[name].as_f64().map(f64::round);
    Fault { fault: text(&row["fault"]), result, reason, inject_ms: rounded("inject_ms"), heal_ms: rounded("heal_ms") }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn doctors_answer_is_counted() {
        let answer = json!({ "format_version": 2, "findings": [
            { "check": "lxc", "status": "ok", "seen": "5.0.2" },
            { "check": "loop", "status": "failure", "seen": "tried: no\nsecond line" },
            { "check": "psi", "status": "warning", "seen": "no pressure" },
        ] });
        let doctor = parse_doctor(&answer.to_string()).unwrap();
        assert_eq!((doctor.ok, doctor.warnings.len()), (1, 1));
        assert_eq!(doctor.failures, [Problem { check: "loop".into(), seen: "tried: no".into() }]);
        assert!(parse_doctor("{}").is_err() && parse_doctor("no JSON").is_err());
    }

    #[test]
    fn a_case_says_why_it_did_not_pass() {
        let record = json!({ "cases": [
            { "case": "a/b:c", "verdict": "passed", "attempts": [{ "outcome": "passed", "duration_ms": 1234.0 }] },
            { "case": "a/d:e", "verdict": "infrastructure", "attempts": [
                { "outcome": "infrastructure", "message": "no lab\nmore", "duration_ms": 1.0 },
            ] },
            { "case": "a/f:g", "verdict": "skipped", "attempts": [] },
            { "case": "a/h:i", "verdict": "failed", "attempts": [
                { "outcome": "failed", "cause": { "cause": "check", "message": "rows == 3" }, "duration_ms": 1.0 },
                { "outcome": "failed", "cause": { "cause": "timed_out", "deadline_ms": 5 }, "duration_ms": 1.0 },
            ] },
        ] });
        let cases = parse_cases(&record.to_string(), false).unwrap();
        assert!(cases[0].passed && cases[0].reason.is_none() && (cases[0].duration_s - 1.2).abs() < 1e-9);
        assert_eq!(cases[1].reason.as_deref(), Some("infrastructure: no lab"));
        assert_eq!(cases[2].reason.as_deref(), Some("skipped"));
        assert_eq!(cases[3].reason.as_deref(), Some("failed: rows == 3; then failed: timed_out"));
    }

    #[test]
    fn a_trial_is_judged_by_what_was_seen() {
        let row = |supported, took_effect, recovered| {
            trial(&json!({ "fault": "net.loss", "supported": supported, "bites": took_effect, "healed": recovered,
                "evidence": "evidence\nmore", "after": "after", "inject_ms": 12.4 }))
        };
        let seen = |fault: Fault| (fault.result, fault.reason.unwrap_or_default());
        assert_eq!(seen(row(true, true, true)), (FaultResult::Works, String::new()));
        assert_eq!(seen(row(true, true, false)), (FaultResult::Failed, "after".into()));
        assert_eq!(seen(row(true, false, false)), (FaultResult::Failed, "evidence".into()));
        assert_eq!(seen(row(false, false, false)), (FaultResult::NotApplicable, "evidence".into()));
    }

    #[test]
    fn the_line_that_says_error_is_the_reason() {
        assert_eq!(last_line(b"x\nerror: no slot\n  help: wait\n").as_deref(), Some("error: no slot"));
        assert_eq!(last_line(b"x\ny\n\n").as_deref(), Some("y"));
        assert_eq!(last_line(b""), None);
    }
}
