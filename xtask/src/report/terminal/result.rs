//! The last screen of a run: failures with their causes and places, commands to type next, and noteworthy facts about passed cases.
//! Pure.

use super::story::{CaseStory, Story};
use super::style::{Line, Style, commands, entry};
use super::times::took;
use crate::program;
use crate::record::human::{comparison, comparison_counts, summary};
use crate::record::{Attempt, CaseResult, Cause, Outcome, RunRecord, Verdict};
use crate::report::next::next;
use e2e_stats::Decision;

/// Column in which the text of an entry begins, behind the entry's name.
const TEXT_COLUMN: usize = 12;
/// Maximum failures shown of one case.
const FAILURES_SHOWN: usize = 3;
/// Maximum lines shown from the end of a case's logs.
const LAST_WORDS_SHOWN: usize = 8;
/// Maximum entries in a list of cases or findings.
const LISTED_MAX: usize = 5;

/// Data of the result of a run, as the terminal shows it.
#[derive(Debug)]
pub(super) struct RunResult<'a> {
    pub record: &'a RunRecord,
    pub story: &'a Story,
    /// Name of the run in the commands that are shown: its id, or `latest`.
    pub name: &'a str,
    /// The run's folder, as the terminal shows it.
    pub folder: &'a str,
    /// Path of `report.html`; `None` if the run has no page.
    pub page: Option<&'a str>,
    pub columns: usize,
}

/// Part of a run's result that is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    ProblemsAndEnd,
    Problems,
}

impl RunResult<'_> {
    pub fn lines(&self, part: Part) -> Vec<Line> {
        match part {
            Part::Whole => self.whole(),
            Part::ProblemsAndEnd => [self.problems(), self.ending()].concat(),
            Part::Problems => self.problems(),
        }
    }

    /// Returns noteworthy facts, then cases that did not pass, then the place of the record and the counts.
    fn whole(&self) -> Vec<Line> {
        let mut lines = vec![Line::new()];
        let quiet = lines.len();
        if self.record.counts.failed + self.record.counts.infrastructure == 0 {
            lines.extend(self.slowest());
        }
        lines.extend(self.faults());
        lines.extend(self.known_defects());
        lines.extend(self.findings());
        lines.extend(self.performance());
        lines.extend(self.coverage());
        if lines.len() > quiet {
            lines.push(Line::new());
        }
        lines.extend(self.problems());
        lines.extend(self.ending());
        lines
    }

    /// Returns the cases that did not pass at the first attempt, with causes, faults and commands to type next.
    fn problems(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for case in &self.record.cases {
            let found = self.problem(case);
            if !found.is_empty() {
                lines.extend(found);
                lines.push(Line::new());
            }
        }
        let kept = self.story.cases().filter_map(|(case, story)| Some((case, story.kept.as_ref()?)));
        for (case, (enter, remove)) in kept {
            lines.push(Line::of(Style::Caution, "KEPT").up_to(9).with(Style::Strong, case));
            lines.extend(self.entry("enter", Style::Plain, &enter.join("\n")));
            lines.extend(self.entry("remove", Style::Plain, remove));
            lines.push(Line::new());
        }
        for failure in &self.record.cleanup_failures {
            lines.extend(self.entry("left over", Style::Bad, failure));
            lines.extend(self.entry("next", Style::Plain, &format!("{} clean", program::name())));
        }
        lines
    }

    fn problem(&self, case: &CaseResult) -> Vec<Line> {
        let (word, style) = match case.verdict {
            Verdict::Failed => ("FAILED", Style::Bad),
            Verdict::Infrastructure => ("NO LAB", Style::Bad),
            Verdict::Flaky => ("FLAKY", Style::Caution),
            Verdict::Passed | Verdict::Interrupted | Verdict::Skipped => return Vec::new(),
        };
        let failed =
            |attempt: &&Attempt| matches!(attempt.outcome, Outcome::Failed { .. } | Outcome::Infrastructure { .. });
        let Some(attempt) = case.attempts.iter().rev().find(failed) else { return Vec::new() };
        let attempts = match case.attempts.len() {
            1 => String::new(),
            many => format!(", {many} attempts"),
        };
        let time = format!("  {}{attempts}", took(attempt.duration_ms));
        let mut lines =
            vec![Line::of(style, word).up_to(9).with(Style::Strong, &case.case.0).with(Style::Faint, &time)];
        let unknown = CaseStory::default();
        let story = self.story.of(&case.case.0).unwrap_or(&unknown);
        lines.extend(self.causes(&attempt.outcome, story));
        if let Some(faults) = self.faults_of(case, story) {
            lines.extend(self.entry("faults", Style::Plain, &faults));
        }
        lines.extend(self.entry("record", Style::Plain, &format!("{}/{}", self.folder, attempt.folder)));
        let next = next(self.record, &case.case, attempt, self.name).into_iter().map(|next| next.command);
        lines.extend(commands("next", &next.collect::<Vec<_>>(), TEXT_COLUMN, self.columns));
        lines
    }

    /// Returns an attempt's failures with values and places; if it has none, its outcome with the last lines of its logs.
    fn causes(&self, outcome: &Outcome, story: &CaseStory) -> Vec<Line> {
        let mut lines = Vec::new();
        let failures = &story.attempt.failures;
        let how = match outcome {
            Outcome::Failed { cause: Cause::Check { .. } | Cause::Error { .. } | Cause::Panic { .. } }
                if !failures.is_empty() =>
            {
                None
            }
            Outcome::Failed { cause } => Some(cause.to_string()),
            Outcome::Infrastructure { message, .. } => Some(format!("{message}\nthe product was not tested")),
            Outcome::Passed | Outcome::Interrupted => None,
        };
        let mut before = self.entry("before", Style::Caution, &story.attempt.before.lines().join("\n"));
        if let Some(how) = &how {
            lines.extend(self.entry("what", Style::Bad, how));
            lines.append(&mut before);
        }
        for problem in failures.iter().take(FAILURES_SHOWN) {
            lines.extend(self.entry("what", Style::Bad, &problem.title));
            lines.append(&mut before);
            lines.extend(self.entry("values", Style::Plain, &problem.values));
            lines.extend(problem.place().iter().flat_map(|place| self.entry("where", Style::Plain, place)));
        }
        let more = story.attempt.failures_count.saturating_sub(FAILURES_SHOWN);
        if more > 0 {
            lines.extend(self.entry("more", Style::Plain, &format!("{more} further failures stand in e2e_test.log")));
        }
        let mut errors = story.attempt.errors.clone();
        if story.attempt.errors_count > errors.len() {
            errors.push(format!("and {} more", story.attempt.errors_count - errors.len()));
        }
        lines.extend(self.entry("errors", Style::Plain, &errors.join("\n")));
        if how.is_some() && !story.attempt.last_words.is_empty() {
            let mut words: Vec<String> = story.attempt.last_words.iter().take(LAST_WORDS_SHOWN).cloned().collect();
            if story.attempt.last_words.len() > LAST_WORDS_SHOWN {
                words.push("...".to_owned());
            }
            lines.extend(self.entry("logs end", Style::Plain, &words.join("\n")));
        }
        lines
    }

    fn faults_of(&self, case: &CaseResult, story: &CaseStory) -> Option<String> {
        if let Some(faults) = case.attempts.iter().rev().find_map(|attempt| attempt.faults) {
            let refused = match faults.refused {
                0 => String::new(),
                refused => format!(", {refused} not applicable"),
            };
            let late = faults.lateness.map_or_else(String::new, |lateness| format!("; {lateness}"));
            return Some(format!("{} of {} took effect{refused}{}{late}", faults.bit, faults.planned, kinds(story)));
        }
        (!story.effects.is_empty()).then(|| {
            let all: u32 = story.effects.values().sum();
            format!("{all} took effect, as the scenario asked{}", kinds(story))
        })
    }

    /// Returns the passed cases that took longest, with their durations.
    fn slowest(&self) -> Vec<Line> {
        let time = |case: &CaseResult| case.attempts.iter().map(|attempt| attempt.duration_ms).sum::<f64>();
        let over = self.record.cases.iter().filter(|case| matches!(case.verdict, Verdict::Passed | Verdict::Flaky));
        let mut cases: Vec<(f64, &str)> = over.map(|case| (time(case), case.case.0.as_str())).collect();
        if cases.len() < 2 {
            return Vec::new();
        }
        cases.sort_by(|one, other| other.0.total_cmp(&one.0));
        let text: Vec<String> =
            cases.iter().take(LISTED_MAX).map(|(time, case)| format!("{:>10}  {case}", took(*time))).collect();
        let mut lines = Vec::new();
        for (number, text) in text.iter().enumerate() {
            let name = if number == 0 { "  slowest" } else { "" };
            lines.push(Line::of(Style::Faint, name).up_to(TEXT_COLUMN).with(Style::Plain, text));
        }
        lines
    }

    /// Returns, for each passed case with a schedule, the faults that took effect.
    fn faults(&self) -> Vec<Line> {
        let passed = self.record.cases.iter().filter(|case| case.verdict == Verdict::Passed);
        let with_faults = passed.filter(|case| case.attempts.iter().any(|attempt| attempt.faults.is_some()));
        let unknown = CaseStory::default();
        let text: Vec<String> = with_faults
            .filter_map(|case| {
                let story = self.story.of(&case.case.0).unwrap_or(&unknown);
                Some(format!("{}: {}", case.case, self.faults_of(case, story)?))
            })
            .collect();
        self.entry("faults", Style::Plain, &text.join("\n"))
    }

    fn known_defects(&self) -> Vec<Line> {
        let count: u32 = self.story.cases().map(|(_, story)| story.known_defects).sum();
        let cases = self.story.cases().filter(|(_, story)| story.known_defects > 0).count();
        match count {
            0 => Vec::new(),
            count => {
                let cases = if cases == 1 { "1 case".to_owned() } else { format!("{cases} cases") };
                self.entry("defects", Style::Plain, &format!("{count} known, seen in {cases}"))
            }
        }
    }

    /// Returns the unexpected findings of the run's labs.
    fn findings(&self) -> Vec<Line> {
        let all = self.story.cases().flat_map(|(case, story)| story.findings.iter().map(move |one| (case, one)));
        let all: Vec<String> = all.map(|(case, finding)| format!("{finding} ({case})")).collect();
        let count: usize = self.story.cases().map(|(_, story)| story.findings_count).sum();
        let mut text: Vec<String> = all.iter().take(LISTED_MAX).cloned().collect();
        if count > text.len() {
            text.push(format!("and {} more: `finding` in e2e_test.log", count - text.len()));
        }
        self.entry("findings", Style::Caution, &text.join("\n"))
    }

    fn performance(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for found in self.record.comparisons.iter().filter(|one| one.verdict.decision != Decision::Unchanged) {
            let style = match found.verdict.decision {
                Decision::Regressed => Style::Bad,
                Decision::Improved => Style::Good,
                Decision::Unchanged | Decision::Inconclusive => Style::Plain,
            };
            lines.extend(entry("", style, &comparison(found), 2, self.columns));
        }
        lines
    }

    /// Returns the numbers of called functions of the product, and the calls that are missing.
    fn coverage(&self) -> Vec<Line> {
        let Some(coverage) = &self.record.coverage else { return Vec::new() };
        let mut lines = self.entry("covered", Style::Plain, &coverage.to_string());
        lines.extend(coverage.gaps.iter().take(LISTED_MAX).flat_map(|gap| self.entry("", Style::Caution, gap)));
        if let Some(more) = coverage.gaps.len().checked_sub(LISTED_MAX).filter(|more| *more > 0) {
            lines.extend(self.entry("", Style::Caution, &format!("... and {more} more gaps in coverage.json")));
        }
        lines
    }

    /// Returns the record's folder, and the numbers of cases by outcome.
    fn ending(&self) -> Vec<Line> {
        let record = self.record;
        let mut lines = vec![Line::of(Style::Faint, "record: ").with(Style::Plain, self.folder)];
        lines.extend(self.page.map(|page| Line::of(Style::Faint, "report: ").with(Style::Plain, page)));
        if record.compared_with.is_some() {
            lines.push(Line::of(Style::Plain, &comparison_counts(&record.comparisons)));
        }
        let (word, style) = match record.exit_code {
            _ if record.unfinished.as_ref().is_some_and(|end| end.still_runs) => ("STILL RUNS", Style::Caution),
            _ if record.unfinished.is_some() => ("KILLED", Style::Bad),
            0 if record.counts.flaky > 0 => ("FLAKY", Style::Caution),
            0 => ("PASSED", Style::Good),
            1 => ("FAILED", Style::Bad),
            2 => ("NO BASELINE", Style::Bad),
            4 => ("REGRESSED", Style::Bad),
            5 => ("INTERRUPTED", Style::Caution),
            _ if record.counts.infrastructure == 0 && !record.cleanup_failures.is_empty() => ("NOT CLEAN", Style::Bad),
            _ => ("NO LAB", Style::Bad),
        };
        let counts = summary(&record.counts, record.duration_ms);
        lines.push(Line::of(style, word).with(Style::Plain, "  ").with(Style::Strong, &counts));
        lines
    }

    fn entry(&self, name: &str, style: Style, text: &str) -> Vec<Line> {
        entry(name, style, text, TEXT_COLUMN, self.columns)
    }
}

fn kinds(story: &CaseStory) -> String {
    let one = |(name, times): (&&str, &u32)| if *times == 1 { (*name).to_owned() } else { format!("{name} x{times}") };
    let all: Vec<String> = story.effects.iter().map(one).collect();
    if all.is_empty() { String::new() } else { format!(": {}", all.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, GAUNTLET, amid_faults, case, ended, ending};
    use super::super::style::Paint;
    use super::*;
    use crate::record::{Counts, CoverageCounts, Event, RecordedCoverage, Stamped};

    fn story(events: impl IntoIterator<Item = Event>) -> Story {
        told(events.into_iter().map(|event| samples::at(0.0, event)))
    }

    fn told(events: impl IntoIterator<Item = Stamped>) -> Story {
        let mut story = Story::default();
        events.into_iter().for_each(|stamped| story.apply(&stamped));
        story
    }

    fn lines(record: &RunRecord, story: &Story, columns: usize) -> Vec<String> {
        let result = RunResult {
            record,
            story,
            name: "latest",
            folder: "target/e2e/RUN",
            page: Some("target/e2e/RUN/report.html"),
            columns,
        };
        result.lines(Part::Whole).iter().map(|line| line.text(Paint::Plain)).collect()
    }

    fn check(lines: &[String], expected: &[&str]) {
        assert_eq!(lines, expected, "\n{}", lines.join("\n"));
    }

    #[test]
    fn a_failure_says_what_why_where_and_what_to_type() {
        let story = story(amid_faults().into_iter().chain(ending()).map(|stamped| stamped.event));
        let record = samples::record();
        check(
            &lines(&record, &story, 80),
            &[
                "",
                "  defects   1 known, seen in 1 case",
                "  findings  unit_restarted on worker: worker.service: 3 times",
                "            (error_handling/chaos_gauntlet:planted)",
                "",
                "FAILED   error_handling/chaos_gauntlet:planted  11 s",
                "  what      check failed: done == accepted (no accepted job is lost)",
                "  values    done = 119",
                "            accepted = 120",
                "  where     scenarios/error_handling/chaos_gauntlet/main.rs:88",
                "  errors    accepted job 2:1 is not in the table",
                "  faults    2 of 8 took effect, 1 not applicable: net.delay, node.freeze",
                "  record    target/e2e/RUN/error_handling/chaos_gauntlet/planted",
                "  next      cargo xtask e2e error_handling/chaos_gauntlet:planted --slot 3 \\",
                "              --chaos-replay latest",
                "            cargo xtask shrink latest --slot 3",
                "            cargo xtask logs latest --case \\",
                "              error_handling/chaos_gauntlet:planted --digest",
                "            cargo xtask e2e error_handling/chaos_gauntlet:planted --slot 3 \\",
                "              --chaos-replay latest --keep-containers",
                "",
                "record: target/e2e/RUN",
                "report: target/e2e/RUN/report.html",
                "FAILED  1 passed, 1 failed; 13.000 s",
            ],
        );
        let wide = lines(&record, &story, 200);
        assert_eq!(wide.len(), 20, "{wide:#?}");
        assert_eq!(
            wide[2],
            "  findings  unit_restarted on worker: worker.service: 3 times (error_handling/chaos_gauntlet:planted)"
        );
        assert_eq!(
            wide[12],
            "  next      cargo xtask e2e error_handling/chaos_gauntlet:planted --slot 3 --chaos-replay latest"
        );
    }

    #[test]
    fn the_end_of_a_service_stands_below_the_failure_that_it_caused() {
        let finding = Event::Finding {
            case: case(GAUNTLET),
            kind: "unit_failed".into(),
            container: Some("counter".into()),
            about: "counter.service".into(),
            detail: "died of SIGSEGV, its result is core-dump".into(),
            happened_at_ms: Some(994.0),
            expected: false,
        };
        let aborted = Event::Aborted {
            case: case(GAUNTLET),
            kind: e2e_contract::AbortKind::Error,
            message: "curl in client ended with status 52".into(),
            location: Some("main.py:7".into()),
        };
        let started = Event::CaseStarted { case: case(GAUNTLET), attempt: 1, folder: None };
        let story = told([samples::at(0.1, started), samples::at(1.0, aborted), samples::at(1.2, finding)]);
        let mut record = samples::record();
        record.cases[1].attempts[0].outcome = Outcome::Failed { cause: Cause::Error { message: "curl".into() } };
        let lines = lines(&record, &story, 100);
        let from = lines.iter().position(|line| line.starts_with("FAILED")).unwrap();
        check(
            &lines[from + 1..from + 4],
            &[
                "  what      the scenario gave up: curl in client ended with status 52",
                "  before    counter.service on counter died of SIGSEGV, its result is core-dump, 6 ms before",
                "  where     main.py:7",
            ],
        );
    }

    #[test]
    fn coverage_is_one_line_and_its_first_gaps() {
        let mut record = samples::record();
        let counts = CoverageCounts { functions: 659, called: 431, by_drivers: 402, by_probes_alone: 29, never: 228 };
        let gaps = (1..=7).map(|case| format!("a/b:{case}: full")).collect();
        record.coverage = Some(RecordedCoverage { package: "shop".into(), version: "1.2".into(), counts, gaps });
        let lines = lines(&record, &story([]), 100);
        check(
            &lines[1..9],
            &[
                "  covered   coverage of shop 1.2: 431 of 659 functions called, 402 by drivers, 29 by probes alone",
                "            (incomplete: 7 gaps)",
                "            a/b:1: full",
                "            a/b:2: full",
                "            a/b:3: full",
                "            a/b:4: full",
                "            a/b:5: full",
                "            ... and 2 more gaps in coverage.json",
            ],
        );
    }

    #[test]
    fn what_passed_says_what_took_long_and_which_faults_took_effect() {
        let mut record = samples::record();
        record.cases[1].verdict = Verdict::Passed;
        record.cases[1].attempts[0].outcome = Outcome::Passed;
        record.exit_code = 0;
        record.counts = Counts::of(&record.cases);
        let events = amid_faults().into_iter().map(|stamped| stamped.event);
        check(
            &lines(&record, &story(events.filter(|event| !matches!(event, Event::Check { .. }))), 80),
            &[
                "",
                "  slowest         11 s  error_handling/chaos_gauntlet:planted",
                "                 2.0 s  data_pipeline/data_ingestion:small",
                "  faults    error_handling/chaos_gauntlet:planted: 2 of 8 took effect, 1 not",
                "            applicable: net.delay, node.freeze",
                "",
                "record: target/e2e/RUN",
                "report: target/e2e/RUN/report.html",
                "PASSED  2 passed, 0 failed; 13.000 s",
            ],
        );
    }

    #[test]
    fn without_a_check_the_last_words_are_shown_and_without_a_lab_the_help() {
        let mut record = samples::record();
        record.cases.remove(0);
        let mut of = |outcome: Outcome, verdict: Verdict| {
            let started = Event::CaseStarted { case: case(GAUNTLET), attempt: 1, folder: None };
            let story = story([started, ended(GAUNTLET, outcome.clone(), 10.8)]);
            record.cases[0].verdict = verdict;
            record.cases[0].attempts[0] = Attempt { outcome, faults: None, ..record.cases[0].attempts[0].clone() };
            record.command = ["--root", "a b", "e2e", "--timeout=5s", "--", "--slot"].map(str::to_owned).to_vec();
            record.counts = Counts::of(&record.cases);
            record.exit_code = record.counts.exit_code();
            lines(&record, &story, 200)
        };
        check(
            &of(Outcome::Failed { cause: Cause::TimedOut { deadline_ms: 5000, doing: None } }, Verdict::Failed),
            &[
                "",
                "FAILED   error_handling/chaos_gauntlet:planted  11 s",
                "  what      the scenario did not end within 5s and was killed",
                "  logs end  containers/db/console.log:",
                "              out of memory",
                "  record    target/e2e/RUN/error_handling/chaos_gauntlet/planted",
                "  next      cargo xtask e2e error_handling/chaos_gauntlet:planted --root 'a b' --timeout 5s",
                "            cargo xtask logs latest --case error_handling/chaos_gauntlet:planted --digest --root 'a b'",
                "            cargo xtask e2e error_handling/chaos_gauntlet:planted --root 'a b' --timeout 5s --keep-containers",
                "",
                "record: target/e2e/RUN",
                "report: target/e2e/RUN/report.html",
                "FAILED  0 passed, 1 failed; 13.000 s",
            ],
        );
        let no_lab = of(Outcome::infrastructure("no memory\n  help: buy some"), Verdict::Infrastructure);
        assert_eq!(
            no_lab[1..8],
            [
                "NO LAB   error_handling/chaos_gauntlet:planted  11 s",
                "  what      no memory",
                "              help: buy some",
                "            the product was not tested",
                "  logs end  containers/db/console.log:",
                "              out of memory",
                "  record    target/e2e/RUN/error_handling/chaos_gauntlet/planted",
            ]
        );
        assert_eq!(no_lab[8], "  next      cargo xtask doctor --root 'a b'");
    }
}
