//! `summary.md`: a page of Markdown about the run, for the summary of a CI job.

use std::fmt::Write as _;

use super::before::Before;
use super::problem::{Problem, ending, problems, remarks};
use crate::program;
use crate::record::human::{comparison, comparison_counts, summary};
use crate::record::seconds;
use crate::record::{
    AttemptEvents, CaseResult, Cause, Event, FaultObserved, Outcome, PastRun, RunEvents, Verdict, plain_text,
    visible_text,
};
use e2e_stats::Decision;

/// Maximum cases described among those that did not pass: GitHub accepts a summary of at most 1 MiB for each step of a CI job.
const DESCRIBED_MAX: usize = 40;

/// Maximum problems shown of one case.
const PROBLEMS_MAX: usize = 5;

pub fn make(run: &PastRun, events: &RunEvents) -> anyhow::Result<String> {
    let record = &run.record;
    let mut text = format!("# {}\n\n", summary(&record.counts, record.duration_ms));
    for remark in remarks(record, events) {
        text.push_str(&format!("Incomplete: {}\n\n", code(&remark)));
    }
    let (passed, others): (Vec<_>, Vec<_>) = record.cases.iter().partition(|case| case.verdict == Verdict::Passed);
    if !others.is_empty() {
        text.push_str("| case | verdict | attempts | time |\n|---|---|---|---|\n");
        for case in &others {
            text.push_str(&row(case));
        }
        text.push('\n');
    }
    let described: Vec<_> = others.iter().filter(|case| !case.attempts.is_empty()).collect();
    for case in described.iter().take(DESCRIBED_MAX) {
        text.push_str(&describe(case, events));
    }
    if let Some(more) = described.len().checked_sub(DESCRIBED_MAX).filter(|more| *more > 0) {
        writeln!(text, "{more} more cases stand in `run.json`.\n")?;
    }
    if !passed.is_empty() {
        writeln!(text, "<details><summary>{} passed</summary>\n", passed.len())?;
        text.push_str("| case | verdict | attempts | time |\n|---|---|---|---|\n");
        for case in &passed {
            text.push_str(&row(case));
        }
        let (displaced, others): (Vec<_>, Vec<_>) = passed.iter().partition(|case| is_displaced(case));
        text.push_str(&list(others.into_iter().map(lateness).collect()));
        text.push_str("\n</details>\n\n");
        text.push_str(list(displaced.into_iter().map(lateness).collect()).trim_start());
    }
    if !record.comparisons.is_empty() {
        let changed = record.comparisons.iter().filter(|one| one.verdict.decision != Decision::Unchanged);
        let mut lines: Vec<String> = changed.map(comparison).collect();
        lines.push(comparison_counts(&record.comparisons));
        let compared_with = record.compared_with.as_deref().unwrap_or_default();
        write!(text, "## Compared with {}\n\n{}", code(compared_with), block(&lines.join("\n")))?;
    }
    if let Some(coverage) = &record.coverage {
        text.push_str(&block(&coverage.to_string()));
    }
    for failure in &record.cleanup_failures {
        text.push_str(&format!("Left on the host: {}\n\n", code(failure)));
    }
    text.push_str(&ground(run, !others.is_empty()));
    Ok(text)
}

fn row(case: &CaseResult) -> String {
    let time: f64 = case.attempts.iter().map(|attempt| attempt.duration_ms).sum();
    let name = code(&case.case.0).replace('|', "\\|");
    format!("| {name} | {} | {} | {} |\n", word(case.verdict), case.attempts.len(), seconds(time))
}

/// Tells whether a fault of the case took effect only after its planned end, so that the schedule was not played as planned.
fn is_displaced(case: &CaseResult) -> bool {
    case.attempts
        .iter()
        .any(|attempt| attempt.faults.and_then(|faults| faults.lateness).is_some_and(|it| it.displaced > 0))
}

/// Puts an empty line before and after a list; an empty list stays empty.
fn list(lines: String) -> String {
    if lines.is_empty() { lines } else { format!("\n{lines}\n") }
}

/// Returns a line for each attempt at a case with the delays of its faults against their schedule.
fn lateness(case: &CaseResult) -> String {
    let late = case.attempts.iter().filter_map(|attempt| attempt.faults?.lateness);
    late.map(|lateness| format!("- {}: faults took effect {lateness}\n", code(&case.case.0))).collect()
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "**failed**",
        Verdict::Flaky => "flaky",
        Verdict::Infrastructure => "no lab",
        Verdict::Interrupted => "interrupted",
        Verdict::Skipped => "skipped",
    }
}

/// Describes a case by its first failed attempt, else by its last attempt.
fn describe(case: &CaseResult, events: &RunEvents) -> String {
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed { .. });
    let index = case.attempts.iter().position(|attempt| failed(&attempt.outcome));
    let index = index.unwrap_or(case.attempts.len().saturating_sub(1));
    let Some(attempt) = case.attempts.get(index) else { return String::new() };
    let told = events.attempt(&case.case, index + 1);
    let mut text = format!("## {}\n\n", code(&case.case.0));
    let problems = told.map(problems).unwrap_or_default();
    // The first problem says the same as these, and more.
    let is_told = matches!(
        attempt.outcome,
        Outcome::Failed { cause: Cause::Check { .. } | Cause::Error { .. } | Cause::Panic { .. } }
    );
    if problems.is_empty() || !is_told {
        text.push_str(&block(&ending(&attempt.outcome).unwrap_or_default()));
    }
    let mut before = told.map(|told| Before::of(told).lines()).unwrap_or_default();
    if problems.is_empty() {
        text.push_str(&block(&before.drain(..).map(|line| format!("before: {line}\n")).collect::<String>()));
    }
    for problem in problems.iter().take(PROBLEMS_MAX) {
        let before: String = before.drain(..).map(|line| format!("\nbefore: {line}")).collect();
        text.push_str(&block(&(problem.text() + &before)));
    }
    if let Some(more) = problems.len().checked_sub(PROBLEMS_MAX).filter(|more| *more > 0) {
        text.push_str(&format!("{more} more problems stand in `e2e_test.log`.\n\n"));
    }
    if let (Some(told), Some(first)) = (told, problems.first()) {
        text.push_str(&faults_at(told, first));
    }
    text.push_str(&told.map(lost_faults).unwrap_or_default());
    if let Some(faults) = attempt.faults {
        text.push_str(&format!(
            "Faults: {} planned, {} took effect, {} not applicable.{}\n\n",
            faults.planned,
            faults.bit,
            faults.refused,
            faults.lateness.map_or_else(String::new, |lateness| format!(" Lateness: {lateness}."))
        ));
    }
    format!("{text}Logs and artifacts: {} in the run's folder.\n\n", code(&attempt.folder))
}

/// Returns a sentence with the faults that were active at the moment of a problem; empty if there were none.
fn faults_at(attempt: &AttemptEvents, problem: &Problem) -> String {
    let mut on: Vec<&FaultObserved> = Vec::new();
    for stamped in attempt.events().iter().take_while(|stamped| stamped.at_ms <= problem.at_ms) {
        match &stamped.event {
            Event::FaultInjected(observed) => on.push(observed),
            Event::FaultHealed(observed) => on.retain(|other| other.fault != observed.fault),
            _ => {}
        }
    }
    let on: Vec<String> =
        on.iter().map(|fault| code(&format!("{} on {}", fault.description, fault.container))).collect();
    if on.is_empty() { String::new() } else { format!("At that moment: {}.\n\n", on.join(", ")) }
}

/// Returns a line for each fault whose effect was lost before it was to be healed: the attempt does not show how the product behaves under
/// such a fault.
fn lost_faults(attempt: &AttemptEvents) -> String {
    let lost = attempt.events().iter().filter_map(|stamped| match &stamped.event {
        Event::FaultHealed(healed) => {
            let lasted = healed.lasted.as_ref().filter(|lasted| lasted.state.is_lost())?;
            let fault = code(&format!("{} on {}", healed.description.name(), healed.container));
            Some(format!("{fault} {}", plain_text(&lasted.to_string())))
        }
        _ => None,
    });
    lost.map(|line| format!("{line}.\n\n")).collect()
}

/// Returns the run's host and command, the options that repeat its faults, and, if `has_others`, the command that reruns the cases that did
/// not pass.
fn ground(run: &PastRun, has_others: bool) -> String {
    let record = &run.record;
    let mut text = format!("Run {}, {}", code(&record.run_id), record.started_at);
    if let Some(machine) = &record.machine {
        let memory = machine.memory_bytes >> 30;
        let what = format!("{} cores, {memory} GiB, kernel {}, LXC {}", machine.cores, machine.kernel, machine.lxc);
        text.push_str(&format!(", on {}", code(&what)));
    }
    text.push_str(".\n\n");
    let mut commands = Vec::new();
    if !record.command.is_empty() {
        commands.push(format!("{} {}", program::name(), record.command.join(" ")));
    }
    if let Some(seed) = record.chaos_seed {
        commands.push(format!("# its faults: --seed {seed}, or --chaos-replay {}", record.run_id));
    }
    if has_others {
        // Such as the folder of the project, which stands before the verb.
        let before: String =
            record.command.iter().take_while(|word| *word != "e2e").map(|word| format!("{word} ")).collect();
        let before = if record.command.iter().any(|word| word == "e2e") { before } else { String::new() };
        commands.push(format!("{} {before}e2e --rerun-failed={}", program::name(), record.run_id));
    }
    if commands.is_empty() { text } else { format!("{text}{}", block(&commands.join("\n"))) }
}

/// Returns a line as inline code of Markdown, between enough backticks for the backticks in the line.
fn code(line: &str) -> String {
    let line = plain_text(&visible_text(line).replace('\n', " "));
    if line.is_empty() {
        return String::new();
    }
    let ticks = "`".repeat(longest_run_of_ticks(&line) + 1);
    let blank = if line.starts_with('`') || line.ends_with('`') { " " } else { "" };
    format!("{ticks}{blank}{line}{blank}{ticks}")
}

/// Returns lines as a code block of Markdown, with a fence longer than any fence in the lines.
fn block(lines: &str) -> String {
    let lines: Vec<String> = visible_text(lines).lines().map(plain_text).collect();
    let lines = lines.join("\n");
    if lines.is_empty() {
        return String::new();
    }
    let fence = "`".repeat(longest_run_of_ticks(&lines).max(2) + 1);
    format!("{fence}text\n{lines}\n{fence}\n\n")
}

fn longest_run_of_ticks(text: &str) -> usize {
    text.split(|character| character != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_piece_of_code_but_its_own_end() {
        assert_eq!(code("a``b\n<script>"), "```a``b <script>```");
        assert_eq!(code("`x`"), "`` `x` ``");
        assert_eq!(block("one\n````\n# two\u{1b}[2J"), "`````text\none\n````\n# two␛[2J\n`````\n\n");
    }
}
