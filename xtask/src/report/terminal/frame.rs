//! The live lines, which show the present state of a run, cut to a width. Pure: no input or output. Everything that a color means is also
//! said in words.

use super::screen::{Condition, Running, Screen, Stage};
use super::style::{Line, Paint, Style};
use super::times::{left, running};

/// Width in columns from which a case is one line; on a narrower terminal its step, machines and faults have lines of their own.
const WIDE_COLUMNS: usize = 150;
/// Column of a case's name; the word for the case's state and its time stand before it.
pub(super) const NAME_COLUMN: usize = 18;
/// Column of the step, machines and faults on the lines below a case's name.
const VALUE_COLUMN: usize = 28;
/// Column of a case's step, where the case is one line; the next two constants are the columns of its machines and its faults.
const STEP_COLUMN: usize = 75;
const MACHINES_COLUMN: usize = 112;
const FAULTS_COLUMN: usize = 136;
/// Width of the progress bar of the run, without the text beside it.
const BAR_COLUMNS: usize = 24;
/// Maximum templates shown whose layers are being built.
const LAYERS_MAX: usize = 6;

impl Screen {
    /// Returns the live lines at a moment, none longer than `columns`. There is always at least one line, which indicatif needs.
    pub fn frame(&self, now_ms: f64, columns: usize, paint: Paint) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(
            self.waits
                .iter()
                .map(|wait| first("WAITS", Style::Caution, now_ms - wait.since_ms).with(Style::Plain, &wait.what)),
        );
        let layers = self.layers.iter().take(LAYERS_MAX);
        lines.extend(layers.map(|layer| {
            let line = first("BUILDS", Style::Plain, now_ms - layer.since_ms);
            line.with(Style::Strong, &format!("template {}", layer.template))
                .with(Style::Plain, &format!("  {}", layer.step))
        }));
        let hidden = self.layers.len().saturating_sub(LAYERS_MAX);
        if hidden > 0 {
            lines.push(Line::new().up_to(NAME_COLUMN).with(Style::Faint, &format!("and {hidden} more templates")));
        }
        lines.extend(self.scenarios_build.iter().map(|build| {
            let line = first("BUILDS", Style::Plain, now_ms - build.since_ms);
            line.with(Style::Strong, "scenarios").with(Style::Plain, &format!("  {}", build.what))
        }));
        for case in &self.cases {
            if columns >= WIDE_COLUMNS {
                lines.push(wide(case, now_ms));
            } else {
                lines.extend(narrow(case, now_ms));
            }
        }
        lines.push(self.whole(now_ms));
        lines.iter().map(|line| line.cut(columns, paint)).collect()
    }

    /// Returns the last line: the progress of the whole run.
    fn whole(&self, now_ms: f64) -> Line {
        if self.stops {
            return Line::of(Style::Caution, "STOPS")
                .with(Style::Plain, "  machines are taken down; Ctrl-C again ends at once");
        }
        let time = running(now_ms);
        if let Some(amount) = &self.amount {
            let what = format!("  {} of {} {}", amount.done, amount.of, amount.what);
            return bar(Line::new(), amount.done, 0, amount.of)
                .with(Style::Strong, &what)
                .with(Style::Plain, &format!("   {time}"));
        }
        let Some(planned) = self.planned else {
            return first("IN ALL", Style::Faint, now_ms);
        };
        let tally = &self.tally;
        let bad = tally.failed + tally.without_lab;
        let mut line = bar(Line::new(), tally.over() - bad, bad, planned);
        line = line.with(Style::Strong, &format!("  {} of {planned}", tally.over()));
        let counts = [
            (tally.passed, "passed", Style::Good),
            (tally.failed, "failed", Style::Bad),
            (tally.flaky, "flaky", Style::Caution),
            (tally.without_lab, "without a lab", Style::Bad),
            (tally.interrupted, "interrupted", Style::Caution),
            (tally.skipped, "skipped", Style::Faint),
        ];
        for (count, word, style) in counts.into_iter().filter(|(count, ..)| *count > 0) {
            line = line.with(Style::Plain, "  ").with(style, &format!("{count} {word}"));
        }
        line = line.with(Style::Plain, &format!("   {time}"));
        match self.left_ms(now_ms) {
            Some(left_ms) if planned > tally.over() => {
                line.with(Style::Faint, &format!(", about {} left", left(left_ms)))
            }
            _ => line,
        }
    }
}

/// Begins a line with a word and a time, filled with blanks up to [`NAME_COLUMN`].
pub(super) fn head(word: &str, style: Style, time: &str) -> Line {
    let time_columns = NAME_COLUMN - 10;
    Line::of(style, &format!("{word:<8}")).with(Style::Faint, &format!("{time:>time_columns$}")).up_to(NAME_COLUMN)
}

fn first(word: &str, style: Style, since_ms: f64) -> Line {
    head(word, style, &short(&running(since_ms)))
}

/// Shortens a formatted time so that it fits before [`NAME_COLUMN`]: `3 min 07 s` becomes `3:07`.
pub(super) fn short(time: &str) -> String {
    time.replace(" min ", ":").replace(" h ", "h").trim_end_matches(|last: char| !last.is_ascii_digit()).to_owned()
        + if time.contains(" min") { "" } else { " s" }
}

fn bar(line: Line, good: u32, bad: u32, of: u32) -> Line {
    let share = |count: u32| (count as usize * BAR_COLUMNS).div_euclid(of.max(1) as usize);
    let bad_columns = if bad > 0 { share(bad).max(1) } else { 0 };
    let good_columns = share(good + bad).saturating_sub(bad_columns);
    let rest = BAR_COLUMNS.saturating_sub(good_columns + bad_columns);
    line.with(Style::Good, &"█".repeat(good_columns))
        .with(Style::Bad, &"▓".repeat(bad_columns))
        .with(Style::Faint, &"░".repeat(rest))
}

fn name(line: Line, case: &Running) -> Line {
    let line = line.with(Style::Strong, &case.case);
    if case.attempt > 1 { line.with(Style::Faint, &format!(" ({})", ordinal(case.attempt))) } else { line }
}

/// Returns the words for the number of an attempt; each round of a duet is an attempt of its own.
fn ordinal(attempt: u32) -> String {
    format!("attempt {attempt}")
}

fn word(case: &Running) -> (&'static str, Style) {
    match case.stage {
        Stage::MachinesStart => ("STARTS", Style::Plain),
        Stage::ScenarioStarts | Stage::ScenarioRuns => ("RUNS", Style::Plain),
        Stage::MachinesGone => ("ENDS", Style::Plain),
    }
}

/// Returns the lines of a case on a narrow terminal: one each for its name, step, machines and faults, so that none moves when
/// another changes.
fn narrow(case: &Running, now_ms: f64) -> Vec<Line> {
    let (word, style) = word(case);
    let head = with_problems(name(first(word, style, now_ms - case.since_ms), case), case);
    let below = |what: &str| Line::new().up_to(NAME_COLUMN).with(Style::Faint, what).up_to(VALUE_COLUMN);
    let mut lines = vec![head, step(below("step"), case, now_ms), machines(below("machines"), case)];
    if case.has_had_faults {
        lines.push(faults(below("faults"), case, now_ms));
    }
    lines
}

/// Returns the line of a case on a wide terminal, with columns for its name, step, machines and faults.
fn wide(case: &Running, now_ms: f64) -> Line {
    let (word, style) = word(case);
    let mut line = with_problems(name(first(word, style, now_ms - case.since_ms), case), case).up_to(STEP_COLUMN);
    line = step(line, case, now_ms).up_to(MACHINES_COLUMN);
    line = machines_together(line, case);
    if case.has_had_faults {
        faults(line.up_to(FAULTS_COLUMN).with(Style::Faint, "faults "), case, now_ms)
    } else {
        line
    }
}

fn with_problems(line: Line, case: &Running) -> Line {
    match case.problems {
        0 => line,
        1 => line.with(Style::Bad, "  1 check FAILED"),
        more => line.with(Style::Bad, &format!("  {more} checks FAILED")),
    }
}

fn step(line: Line, case: &Running, now_ms: f64) -> Line {
    if let Some(step) = case.steps.last() {
        return line
            .with(Style::Plain, &step.what)
            .with(Style::Faint, &format!("  {}", running(now_ms - step.since_ms)));
    }
    match (case.stage, &case.operation) {
        (Stage::MachinesStart, _) => line.with(Style::Faint, "machines start"),
        (Stage::MachinesGone, _) => line.with(Style::Faint, "machines are gone"),
        (_, Some((operation, 1))) => line.with(Style::Plain, &format!("after {operation}")),
        (_, Some((operation, times))) => line.with(Style::Plain, &format!("after {operation}, {times} times")),
        (Stage::ScenarioStarts, None) => line.with(Style::Faint, "the scenario starts"),
        (Stage::ScenarioRuns, None) => line.with(Style::Faint, "the scenario runs"),
    }
}

/// Appends each machine with its condition to a line.
fn machines(line: Line, case: &Running) -> Line {
    if case.machines.is_empty() {
        return line.with(Style::Faint, "none");
    }
    case.machines.iter().enumerate().fold(line, |line, (number, (machine, started))| {
        let separator = if number > 0 { ", " } else { "" };
        let (word, style) = condition(case.condition(machine, *started));
        line.with(Style::Plain, &format!("{separator}{machine} ")).with(style, word)
    })
}

/// Appends the number of ready machines, and the names of the others, to a line.
fn machines_together(line: Line, case: &Running) -> Line {
    if case.machines.is_empty() {
        return line.with(Style::Faint, "no machines");
    }
    let now = case.machines.iter().map(|(machine, started)| (machine, case.condition(machine, *started)));
    let (ready, other): (Vec<_>, Vec<_>) = now.partition(|(_, condition)| *condition == Condition::Ready);
    let line = match (ready.len(), other.len()) {
        (1, 0) => line.with(Style::Good, "1 machine ready"),
        (count, 0) => line.with(Style::Good, &format!("{count} machines ready")),
        (0, _) => line,
        (count, _) => line.with(Style::Good, &format!("{count} ready, ")),
    };
    other.iter().enumerate().fold(line, |line, (number, (machine, now))| {
        let separator = if number > 0 { ", " } else { "" };
        let (word, style) = condition(*now);
        line.with(Style::Plain, &format!("{separator}{machine} ")).with(style, word)
    })
}

fn condition(condition: Condition) -> (&'static str, Style) {
    match condition {
        Condition::Ready => ("ready", Style::Good),
        Condition::Starting => ("starting", Style::Caution),
        Condition::Frozen => ("frozen", Style::Bad),
        Condition::Down => ("down", Style::Bad),
    }
}

/// Appends the active faults and the schedule's progress to a line.
fn faults(mut line: Line, case: &Running, now_ms: f64) -> Line {
    if case.faults.is_empty() {
        line = line.with(Style::Faint, "none now");
    }
    for (number, fault) in case.faults.iter().enumerate() {
        let separator = if number > 0 { ", " } else { "" };
        let what = format!("{} on {}", fault.fault.name(), fault.container);
        let time = format!(" {}", running(now_ms - fault.since_ms));
        line = line.with(Style::Plain, separator).with(Style::Caution, &what).with(Style::Faint, &time);
    }
    let Some(chaos) = &case.chaos else { return line };
    let played = now_ms - chaos.since_ms;
    let clock = if played < chaos.length_ms {
        format!("; {} of {} played", running(played), running(chaos.length_ms))
    } else {
        format!("; all heal, {}", running(played - chaos.length_ms))
    };
    line.with(Style::Faint, &clock)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::samples::{self, GAUNTLET, INGESTION, amid_faults, at, case};
    use super::*;
    use crate::record::{Event, Stamped};

    fn screen(events: &[Stamped]) -> Screen {
        let mut screen = Screen::default();
        events.iter().for_each(|event| screen.apply(event));
        screen
    }

    fn check(screen: &Screen, now_ms: f64, columns: usize, expected: &[&str]) {
        let lines = screen.frame(now_ms, columns, Paint::Plain);
        assert_eq!(lines, expected, "at {columns}:\n{}", lines.join("\n"));
        assert!(lines.iter().all(|line| console::measure_text_width(line) <= columns));
    }

    #[test]
    fn a_case_amid_its_faults() {
        let mut screen = screen(&amid_faults());
        screen.expected_ms = Some(BTreeMap::from([(GAUNTLET.into(), 20_000.0), ("a/b:c".into(), 10_000.0)]));
        check(
            &screen,
            9_000.0,
            80,
            &[
                "RUNS         6 s  error_handling/chaos_gauntlet:planted  1 check FAILED",
                "                  step      jobs go through  5 s",
                "                  machines  app ready, db frozen, worker ready",
                "                  faults    node.freeze on db 4 s, net.delay on worker 3 s; 5 s…",
                "████████░░░░░░░░░░░░░░░░  1 of 3  1 passed   9 s, about 25 s left",
            ],
        );
        check(
            &screen,
            15_000.0,
            200,
            &[
                "RUNS        12 s  error_handling/chaos_gauntlet:planted  1 check FAILED    jobs go through  11 s                \
                 2 ready, db frozen      faults node.freeze on db 10 s, net.delay on worker 9 s; all hea…",
                "████████░░░░░░░░░░░░░░░░  1 of 3  1 passed   15 s, about 20 s left",
            ],
        );
    }

    #[test]
    fn layers_in_the_making_and_what_is_waited_for() {
        let step = |template: &str, step: &str| Event::LayerStep { template: template.into(), step: step.into() };
        let reason = "template app: another process builds it".to_owned();
        let mut screen = screen(&[
            at(0.0, samples::run_started(1)),
            at(1.0, step("db", "packages")),
            at(2.0, Event::Waiting { reason }),
            at(70.0, step("db", "run a very long command with many words in it, one after the other, and more")),
        ]);
        check(
            &screen,
            71_000.0,
            80,
            &[
                "WAITS       1:09  template app: another process builds it",
                "BUILDS      1:10  template db  run a very long command with many words in it, o…",
                "░░░░░░░░░░░░░░░░░░░░░░░░  0 of 1   1 min 11 s",
            ],
        );
        screen.apply(&at(80.0, step("app", "packages")));
        screen.apply(&at(80.0, Event::LayerBuilt { template: "db".into(), duration_ms: 1.0, size_bytes: 1 }));
        check(
            &screen,
            81_000.0,
            80,
            &["BUILDS       1 s  template app  packages", "░░░░░░░░░░░░░░░░░░░░░░░░  0 of 1   1 min 21 s"],
        );
        screen.stops = true;
        let last = screen.frame(81_000.0, 80, Paint::Plain).pop();
        assert_eq!(last.as_deref(), Some("STOPS  machines are taken down; Ctrl-C again ends at once"));
    }

    #[test]
    fn a_build_of_scenarios_is_shown_until_the_scenario_starts() {
        let build = |progress: &str| Event::ScenariosBuild { progress: progress.into() };
        let case = || case(INGESTION);
        let mut screen = screen(&[
            at(0.0, samples::run_started(1)),
            at(1.0, Event::CaseStarted { case: case(), attempt: 1, folder: None }),
            at(2.0, build("12/158: regex, serde")),
            at(4.0, build("157/158: scenarios(bin)")),
        ]);
        let line = |screen: &Screen| screen.frame(5_000.0, 80, Paint::Plain).remove(0);
        assert_eq!(line(&screen), "BUILDS       3 s  scenarios  157/158: scenarios(bin)");
        screen.apply(&at(6.0, Event::ScenarioStarted { case: case(), pid: 1, user: "user".into() }));
        assert!(line(&screen).starts_with("RUNS"), "{}", line(&screen));
    }

    #[test]
    fn a_wait_has_a_line_of_its_own_until_cases_run() {
        let mut screen =
            screen(&[at(0.0, samples::run_started(1)), at(1.0, Event::Waiting { reason: "slot 1 is held".into() })]);
        assert_eq!(screen.wait(9_400.0).as_deref(), Some("waiting: slot 1 is held, 8 s"));
        screen.apply(&at(10.0, Event::CaseStarted { case: case(INGESTION), attempt: 1, folder: None }));
        assert_eq!(screen.wait(12_000.0), None);
    }

    #[test]
    fn both_sides_of_a_duet_have_lines() {
        let other = format!("{INGESTION}@baseline");
        let screen = screen(&[
            at(0.0, samples::run_started(1)),
            at(1.0, Event::CaseStarted { case: case(INGESTION), attempt: 1, folder: None }),
            at(1.0, Event::CaseStarted { case: case(&other), attempt: 1, folder: None }),
            at(2.0, Event::ContainerStarted { case: case(&other), container: "db".into() }),
        ]);
        check(
            &screen,
            3_000.0,
            80,
            &[
                "STARTS       2 s  data_pipeline/data_ingestion:small",
                "                  step      machines start",
                "                  machines  none",
                "STARTS       2 s  data_pipeline/data_ingestion:small@baseline",
                "                  step      machines start",
                "                  machines  db starting",
                "░░░░░░░░░░░░░░░░░░░░░░░░  0 of 1   3 s",
            ],
        );
    }

    #[test]
    fn names_cannot_move_the_cursor_or_leave_their_line() {
        let hostile = "a/\u{1b}[2Jb:\r\n\tc\u{202e}".to_owned() + &"x".repeat(5000);
        let screen = screen(&[
            at(0.0, samples::run_started(1)),
            at(1.0, Event::CaseStarted { case: case(&hostile), attempt: 1, folder: None }),
            at(1.0, Event::StepStarted { case: case(&hostile), name: hostile.clone(), depth: 0 }),
        ]);
        for columns in [20, 80, 200] {
            let lines = screen.frame(2_000.0, columns, Paint::Plain);
            assert!(lines.iter().all(|line| !line.contains(|c: char| c.is_control())), "{lines:?}");
            assert!(lines.iter().all(|line| console::measure_text_width(line) <= columns), "{lines:?}");
        }
    }

    #[test]
    fn a_work_without_cases_has_a_bar_too() {
        let mut screen = Screen::default();
        check(&screen, 4_000.0, 80, &["IN ALL       4 s  "]);
        screen.amount = Some(super::super::screen::Amount { what: "faults tried".into(), done: 23, of: 46 });
        check(&screen, 5_000.0, 80, &["████████████░░░░░░░░░░░░  23 of 46 faults tried   5 s"]);
    }
}
