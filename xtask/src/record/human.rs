//! Events as lines of text for people, on the terminal and in `e2e_test.log`.

use e2e_contract::{DefectOutcome, Invariant, InvariantKind, Level, Likeness, Picture, PictureSize};

use super::{
    Comparison, Counts, Event, FaultObserved, Onward, Outcome, Stamped, Verdict, mark_outcome, mark_seen, plain_text,
    seconds,
};
use e2e_stats::Decision;

/// Importance of an event's lines, which decides where they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Shown in the log only.
    Detail,
    /// Shown as progress too.
    Progress,
    /// Shown always.
    Alarm,
}

/// Describes the result of a comparison in one line.
#[must_use]
pub fn comparison(found: &Comparison) -> String {
    let Comparison { case, operation, metric, verdict, gates, was, .. } = found;
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    let effect = verdict.effect.map(|effect| format!(" {:+.1} %", percent(effect))).unwrap_or_default();
    let interval = verdict.interval;
    let interval =
        interval.map(|(low, high)| format!(" [{:+.1}, {:+.1}]", percent(low), percent(high))).unwrap_or_default();
    let p = verdict.p.map(|p| format!(", p {p:.4}")).unwrap_or_default();
    let gate = if *gates || verdict.decision != Decision::Regressed { "" } else { " (fails nothing)" };
    let was = was.as_ref().map(|was| format!(" (was {}: {})", was.decision, was.because)).unwrap_or_default();
    format!(
        "{:<12} {case} {operation} {metric}:{effect}{interval}{p}, {} samples{gate}: {}{was}",
        verdict.decision, verdict.samples, verdict.because
    )
}

/// Formats the number of comparisons by decision, in one line.
#[must_use]
pub fn comparison_counts(comparisons: &[Comparison]) -> String {
    let count = |decision: Decision| comparisons.iter().filter(|one| one.verdict.decision == decision).count();
    let of = |decision: Decision| format!("{} {decision}", count(decision));
    let all = [Decision::Regressed, Decision::Improved, Decision::Unchanged, Decision::Inconclusive];
    format!("performance: {}", all.map(of).join(", "))
}

/// Returns the lines of an event, without a time, and without control characters that a terminal would obey.
#[must_use]
pub fn lines(event: &Event) -> (Weight, Vec<String>) {
    let (weight, lines) = raw_lines(event);
    (weight, lines.iter().map(|line| plain_text(line)).collect())
}

fn raw_lines(event: &Event) -> (Weight, Vec<String>) {
    let one =
        |weight: Weight, line: String| -> (Weight, Vec<String>) { (weight, line.lines().map(str::to_owned).collect()) };
    match event {
        Event::RunStarted { run_id, cases, shuffle_seed, user, started_at, patience, .. } => {
            let order =
                shuffle_seed.map_or_else(String::new, |seed| format!(", shuffled with seed {seed} (--shuffle={seed})"));
            let plural = if *cases == 1 { "case" } else { "cases" };
            let mut lines = one(
                Weight::Progress,
                format!("run {run_id}: {cases} {plural}{order}, scenarios run as {user}, {started_at}"),
            );
            if let Some(patience) = patience.filter(|patience| patience.factor != 1.0) {
                lines.1.push(format!("all deadlines are multiplied by {patience}"));
            }
            lines
        }
        Event::RunPrepared { layers, .. } => {
            let layers =
                if layers.len() == 1 { "1 layer is".to_owned() } else { format!("{} layers are", layers.len()) };
            one(Weight::Detail, format!("{layers} there"))
        }
        Event::Waiting { reason } => one(Weight::Alarm, format!("waiting: {reason}")),
        Event::LayerStep { template, step } => one(Weight::Progress, format!("template {template}: {step}")),
        Event::ScenariosBuild { progress } => one(Weight::Progress, format!("building the scenarios: {progress}")),
        Event::LayerBuilt { template, duration_ms, size_bytes } => {
            let size = size_bytes >> 20;
            one(Weight::Progress, format!("template {template}: built in {}, {size} MiB", seconds(*duration_ms)))
        }
        Event::CaseStarted { case, attempt, .. } => {
            let attempt = if *attempt == 1 { String::new() } else { format!(" (attempt {attempt})") };
            one(Weight::Progress, format!("{case}{attempt}"))
        }
        Event::ContainerStarted { container, .. } => one(Weight::Detail, format!("  {container} starts")),
        Event::ContainerReady { container, after_ms, .. } => {
            one(Weight::Progress, format!("  {container} ready after {}", seconds(*after_ms)))
        }
        Event::LabReady { after_ms, .. } => one(Weight::Detail, format!("  lab ready after {}", seconds(*after_ms))),
        Event::ScenarioStarted { pid, user, .. } => {
            one(Weight::Detail, format!("  the scenario's program runs as {user}, process {pid}"))
        }
        Event::StepStarted { name, depth, .. } => one(Weight::Progress, format!("  {}> {name}", indent(*depth))),
        Event::StepEnded { name, depth, passed, duration_ms, .. } => {
            let end = if *passed { "ok" } else { "FAILED" };
            one(Weight::Progress, format!("  {}< {name}: {end} {}", indent(*depth), seconds(*duration_ms)))
        }
        Event::Check { check, .. } => {
            let meaning = check.message.as_ref().map_or_else(String::new, |message| format!(" ({message})"));
            let place = format!("{}:{}", check.file, check.line);
            let values = |before: &str, after: &str| {
                if check.values.is_empty() { String::new() } else { format!("{before}{}{after}", check.values) }
            };
            if check.passed {
                let text = format!("  check ok: {}{meaning}{} at {place}", check.condition, values(" [", "]"));
                one(Weight::Detail, text)
            } else {
                let text =
                    format!("  check FAILED: {}{meaning}{}\n    at {place}", check.condition, values("\n    ", ""));
                one(Weight::Alarm, text)
            }
        }
        Event::Exec { container, command, status, duration_ms, timed_out, location, not_kept_bytes, .. } => {
            let end = if *timed_out { "killed at its deadline".into() } else { format!("status {status}") };
            let place = location.as_ref().filter(|_| *timed_out || *status != 0);
            let place = place.map_or_else(String::new, |place| format!(" at {place}"));
            let cut = match *not_kept_bytes {
                0 => String::new(),
                bytes => format!(", {bytes} bytes of its output not kept"),
            };
            one(Weight::Detail, format!("  {container}: {command}: {end} {}{cut}{place}", seconds(*duration_ms)))
        }
        Event::DuetBegan { baseline, seed, differences } => {
            let text = if differences.is_empty() {
                format!("duet with {baseline}, seed {seed}: the images of both sides are the same")
            } else {
                format!("duet with {baseline}, seed {seed}: the images differ\n  {}", differences.join("\n  "))
            };
            one(Weight::Alarm, text)
        }
        Event::Covered(coverage) => one(Weight::Progress, coverage.to_string()),
        Event::Compared(found) => {
            let weight = match found.verdict.decision {
                Decision::Regressed => Weight::Alarm,
                _ => Weight::Progress,
            };
            one(weight, comparison(found))
        }
        Event::Metric { metric, .. } => {
            let e2e_contract::Metric { name, value, unit, .. } = metric;
            one(Weight::Progress, format!("  {name}: {value:.3} {unit}"))
        }
        Event::Operation { operation, repetition, duration_ms, succeeded, .. } => {
            let end = if *succeeded { "" } else { " FAILED" };
            let weight = if *repetition == 0 { Weight::Progress } else { Weight::Detail };
            one(weight, format!("  operation {operation}{end} {}", seconds(*duration_ms)))
        }
        Event::FaultInjected(FaultObserved { container, description, evidence, duration_ms, late_ms, .. }) => {
            let late = late_ms.map_or_else(String::new, |late_ms| format!(", {} late", seconds(late_ms as f64)));
            let took = seconds(*duration_ms);
            one(
                Weight::Progress,
                format!("  fault {description} on {container} takes effect after {took}{late}: {evidence}"),
            )
        }
        Event::FaultHealed(healed @ FaultObserved { container, description, duration_ms, .. }) => one(
            Weight::Progress,
            format!(
                "  fault {} on {container} recovered after {}: {}",
                description.name(),
                seconds(*duration_ms),
                healed.told()
            ),
        ),
        Event::FaultRefused { container, description, reason, .. } => {
            one(Weight::Progress, format!("  fault {} on {container} was not applicable: {reason}", description.name()))
        }
        Event::ChaosBegan { profile, seed, faults, length_ms, .. } => {
            let seed = seed.map_or_else(String::new, |seed| format!(", seed {seed}"));
            let length = seconds(*length_ms as f64);
            one(Weight::Progress, format!("  chaos begins: {faults} faults in {length}, profile {profile}{seed}"))
        }
        Event::Settled { bit, refused, duration_ms, .. } => one(
            Weight::Progress,
            format!("  settled after {}: {bit} faults took effect, {refused} not applicable", seconds(*duration_ms)),
        ),
        Event::Invariant { invariant, .. } => invariant_lines(invariant),
        Event::Finding { kind, container, about, detail, expected, .. } => {
            let weight = if *expected { Weight::Detail } else { Weight::Progress };
            let place = container.as_ref().map_or_else(String::new, |container| format!(" on {container}"));
            let expected = if *expected { ", as expected" } else { "" };
            one(weight, format!("  finding {kind}{place}{expected}: {about}: {detail}"))
        }
        Event::MachineEnded { expected, detail, .. } => {
            let (weight, word) = if *expected { (Weight::Detail, ", as expected") } else { (Weight::Alarm, "") };
            let mut lines = detail.lines().map(str::to_owned);
            let first = lines.next().unwrap_or_default();
            (weight, [format!("  {first}{word}")].into_iter().chain(lines).collect())
        }
        Event::MachineRebooted { container, reboots, expected, .. } => {
            let (weight, word) = if *expected { (Weight::Detail, ", as expected") } else { (Weight::Progress, "") };
            one(weight, format!("  container {container} has rebooted by itself{word}, {}", times(*reboots)))
        }
        Event::Defect { defect, .. } => {
            let (name, place, seen) = (&defect.defect, format!("{}:{}", defect.file, defect.line), mark_seen(defect));
            match mark_outcome(defect) {
                DefectOutcome::Known => one(Weight::Progress, format!("  known defect {name}")),
                DefectOutcome::Fixed => {
                    one(Weight::Alarm, format!("  defect {name} is FIXED: remove its mark at {place}; {seen}"))
                }
                DefectOutcome::Different => one(
                    Weight::Alarm,
                    format!("  defect {name} at {place} NO LONGER FAILS with {:?}; {seen}", defect.failing_with),
                ),
            }
        }
        Event::Log { level, message, .. } => {
            let weight = if *level >= Level::Warning { Weight::Alarm } else { Weight::Detail };
            one(weight, format!("  {}: {message}", format!("{level:?}").to_lowercase()))
        }
        Event::Aborted { message, location, .. } => {
            let place = location.as_ref().map_or_else(String::new, |location| format!(" at {location}"));
            one(Weight::Alarm, format!("  the scenario gives up: {message}{place}"))
        }
        Event::Artifact { path, size_bytes, .. } => {
            one(Weight::Detail, format!("  artifact {path}, {size_bytes} bytes"))
        }
        Event::Screenshot { name, url, picture, .. } => match picture {
            Picture::Taken { path, size_bytes } => {
                one(Weight::Progress, format!("  picture {name} of {url}: {}, {size_bytes} bytes", path.display()))
            }
            Picture::Skipped { reason } => one(Weight::Alarm, format!("  picture {name} SKIPPED: {reason}")),
        },
        Event::ScreenshotCompared { name, expected, likeness, .. } => match likeness {
            Likeness::Compared { pixels_off, pixels, difference, .. } => {
                let see = difference.as_ref().map_or_else(String::new, |path| format!(": {}", path.display()));
                one(
                    Weight::Progress,
                    format!("  picture {name}: {pixels_off} of {pixels} pixels differ from {expected}{see}"),
                )
            }
            Likeness::OtherSize { taken, expected: other, .. } => {
                let size = |size: &PictureSize| format!("{} x {}", size.width_pixels, size.height_pixels);
                let (taken, other) = (size(taken), size(other));
                one(Weight::Alarm, format!("  picture {name} has another size: {taken}, and {expected} has {other}"))
            }
            Likeness::Skipped { reason } => one(Weight::Alarm, format!("  picture {name} SKIPPED: {reason}")),
        },
        Event::Held { reason, .. } => one(Weight::Alarm, format!("  held: {reason}")),
        Event::Released { onward, duration_ms, .. } => {
            let what = match onward {
                Onward::Continue => "goes on",
                Onward::GiveUp => "is given up",
            };
            one(Weight::Progress, format!("  {what} after {}", seconds(*duration_ms)))
        }
        Event::Kept { enter, remove, .. } => {
            let mut text = String::from("  the lab is kept; enter it with");
            for command in enter {
                text.push_str(&format!("\n    {command}"));
            }
            one(Weight::Alarm, format!("{text}\n  remove it with\n    {remove}"))
        }
        Event::LabDown { duration_ms, .. } => one(Weight::Detail, format!("  lab down in {}", seconds(*duration_ms))),
        Event::CaseEnded { case, outcome, duration_ms, last_words, folder, .. } => {
            case_ended(&case.0, outcome, *duration_ms, last_words, folder)
        }
        Event::CaseJudged { case, verdict } => match verdict {
            Verdict::Flaky => one(Weight::Alarm, format!("{case}: FLAKY, it passed after it had failed")),
            Verdict::Skipped => one(Weight::Progress, format!("{case}: skipped")),
            verdict => one(Weight::Detail, format!("{case}: {}", verdict_word(*verdict))),
        },
        Event::Warning { message } => one(Weight::Alarm, format!("warning: {message}")),
        Event::RunEnded { counts, duration_ms, .. } => one(Weight::Detail, summary(counts, *duration_ms)),
    }
}

fn invariant_lines(invariant: &Invariant) -> (Weight, Vec<String>) {
    let Invariant { kind, name, held, looks, missed, values, file, line } = invariant;
    let kind = match kind {
        InvariantKind::Always => "always",
        InvariantKind::AtEnd => "at the end",
        InvariantKind::Sometimes => "sometimes",
    };
    let values = if values.is_empty() { String::new() } else { format!(" [{values}]") };
    let looks = format!("tested {looks} times, {missed} times without an answer");
    let (weight, word) = match (held, invariant.kind) {
        (true, _) => (Weight::Detail, "ok"),
        (false, InvariantKind::Sometimes) => (Weight::Detail, "not now"),
        (false, _) => (Weight::Alarm, "FAILED"),
    };
    (weight, vec![format!("  {kind} {word}: {name}{values} ({looks}) at {file}:{line}")])
}

fn case_ended(
    case: &str,
    outcome: &Outcome,
    duration_ms: f64,
    last_words: &[String],
    folder: &str,
) -> (Weight, Vec<String>) {
    let time = seconds(duration_ms);
    let (weight, mut lines) = match outcome {
        Outcome::Passed => (Weight::Progress, vec![format!("  passed in {time}")]),
        Outcome::Failed { cause } => (Weight::Alarm, vec![format!("FAILED {case} in {time}: {cause}")]),
        Outcome::Infrastructure { message, .. } => {
            (Weight::Alarm, vec![format!("INFRASTRUCTURE {case} in {time}, the product was not tested: {message}")])
        }
        Outcome::Interrupted => (Weight::Alarm, vec![format!("INTERRUPTED {case} after {time}")]),
    };
    lines.extend(last_words.iter().map(|line| format!("  | {line}")));
    if weight == Weight::Alarm {
        lines.push(format!("  logs and artifacts: {folder}/ in the run's folder"));
    }
    (weight, lines.iter().flat_map(|line| line.lines()).map(str::to_owned).collect())
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// Formats the counts of a run in one line; verdicts without a case are left out, except passed and failed.
#[must_use]
pub fn summary(counts: &Counts, duration_ms: f64) -> String {
    let mut text = format!("{} passed, {} failed", counts.passed, counts.failed);
    let others = [
        (counts.flaky, "flaky"),
        (counts.infrastructure, "without a lab"),
        (counts.interrupted, "interrupted"),
        (counts.skipped, "skipped"),
    ];
    for (count, word) in others {
        if count > 0 {
            text.push_str(&format!(", {count} {word}"));
        }
    }
    format!("{text}; {}", seconds(duration_ms))
}

/// Formats an event for the log, with its time in seconds since the start of the run.
#[must_use]
pub fn log_text(stamped: &Stamped) -> String {
    lines(&stamped.event).1.iter().map(|line| format!("[{}] {line}\n", stamp(stamped.at_ms))).collect()
}

/// Formats a time since the start of the run, in seconds.
#[must_use]
pub fn stamp(at_ms: f64) -> String {
    format!("{:8.3}", at_ms / 1e3)
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Flaky => "flaky",
        Verdict::Infrastructure => "infrastructure error",
        Verdict::Interrupted => "interrupted",
        Verdict::Skipped => "skipped",
    }
}

fn indent(depth: u32) -> String {
    "  ".repeat(depth.min(20) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{CaseId, Cause};

    #[test]
    fn a_failure_says_what_where_and_how_long() {
        let event = Event::CaseEnded {
            case: CaseId("a/b:c".into()),
            attempt: 1,
            outcome: Outcome::Failed { cause: Cause::Check { message: "rows == 3 [rows = 2] at main.rs:9".into() } },
            duration_ms: 1234.5,
            last_words: vec!["scenario.log:".into(), "  bye".into()],
            folder: "a/b".into(),
            faults: None,
        };
        assert_eq!(
            log_text(&Stamped { at_ms: 2000.0, event }),
            "[   2.000] FAILED a/b:c in 1.234 s: check failed: rows == 3 [rows = 2] at main.rs:9\n\
             [   2.000]   | scenario.log:\n\
             [   2.000]   |   bye\n\
             [   2.000]   logs and artifacts: a/b/ in the run's folder\n"
        );
    }

    #[test]
    fn a_summary_leaves_out_what_did_not_occur() {
        let counts = Counts { passed: 2, ..Counts::default() };
        assert_eq!(summary(&counts, 61_500.0), "2 passed, 0 failed; 1 min 01 s");
        let counts = Counts { failed: 1, flaky: 1, skipped: 3, ..Counts::default() };
        assert_eq!(summary(&counts, 500.0), "0 passed, 1 failed, 1 flaky, 3 skipped; 0.500 s");
    }
}
