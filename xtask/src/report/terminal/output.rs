//! The terminal: the choice between live and plain lines, and all output to it.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use console::Term;

use super::live::Live;
use super::logs::{self, LogClock};
use super::result::{Part, RunResult};
use super::screen::{Amount, Screen};
use super::scroll::{self, Detail};
use super::stdout::println;
use super::story::Story;
use super::style::{Color, Line, Paint, Style};
use crate::input;
use crate::record::human::stamp;
use crate::record::logs::{LogDigest, LogLine};
use crate::record::{EventReader, PastRun, RunRecord, Stamped, plain_text};

/// Width in columns of the output if no terminal reports its width.
const COLUMNS_WITHOUT_TERMINAL: usize = 120;

/// Way in which the progress of a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Live lines on a terminal that can show them; plain lines elsewhere, and if `CI` is set.
    Auto,
    /// A line with a time stamp for each event.
    Plain,
    /// Live lines at the bottom of the terminal with the present state of the run; lines about ended cases and builds stay above them.
    Live,
    /// Live lines if the terminal can show them, even if `CI` is set; plain lines elsewhere.
    LiveIfPossible,
}

/// Options of the output for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub color: Color,
    pub progress: Progress,
    pub detail: Detail,
}

/// Output for people: progress on stderr, results on stdout.
pub struct Terminal {
    detail: Detail,
    shows_live: bool,
    progress_paint: Paint,
    result_paint: Paint,
    state: Arc<Mutex<State>>,
    live: Mutex<Option<Live>>,
    pulse: Mutex<Option<Pulse>>,
}

struct State {
    screen: Screen,
    story: Story,
    /// Time at which this process received the last event.
    heard: Instant,
    /// Time at which this process last printed a plain line.
    said: Instant,
    stops: Option<Box<dyn Fn() -> bool + Send>>,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").field("detail", &self.detail).field("shows_live", &self.shows_live).finish()
    }
}

impl Terminal {
    /// Opens the terminal without writing anything.
    ///
    /// # Errors
    /// When live lines are asked for, and stderr is no terminal that can show them.
    pub fn open(look: Look) -> Result<Self, String> {
        let variable = |name: &str| std::env::var_os(name);
        let progress_is_seen = std::io::stderr().is_terminal();
        let can_be_live = progress_is_seen && variable("TERM").is_none_or(|terminal| terminal != "dumb");
        let in_ci = variable("CI").is_some_and(|value| !value.is_empty() && value != "false");
        let shows_live = match look.progress {
            Progress::Plain => false,
            Progress::Auto => can_be_live && !in_ci && look.detail != Detail::Quiet,
            Progress::Live if !can_be_live => {
                return Err("--progress live: stderr is no terminal that can show them; use `--progress plain`".into());
            }
            Progress::Live => true,
            Progress::LiveIfPossible => can_be_live && look.detail != Detail::Quiet,
        };
        Ok(Self {
            detail: look.detail,
            shows_live,
            progress_paint: look.color.paint(progress_is_seen, &variable),
            result_paint: look.color.paint(std::io::stdout().is_terminal(), &variable),
            state: Arc::new(Mutex::new(State {
                screen: Screen::default(),
                story: Story::default(),
                heard: Instant::now(),
                said: Instant::now(),
                stops: None,
            })),
            live: Mutex::new(None),
            pulse: Mutex::new(None),
        })
    }

    /// Tells whether live lines show the progress.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.shows_live
    }

    /// Returns a listener that shows a run's events as they happen.
    #[must_use]
    pub fn listener(self: &Arc<Self>) -> Box<dyn FnMut(&Stamped) + Send> {
        let terminal = Arc::clone(self);
        Box::new(move |stamped| terminal.show(stamped))
    }

    /// Returns a listener that prints each event as a line of JSON on stdout; docs/events.md describes the format.
    #[must_use]
    pub fn json_listener() -> Box<dyn FnMut(&Stamped) + Send> {
        Box::new(|stamped| {
            if let Ok(line) = serde_json::to_string(stamped) {
                // Whoever read it may be gone; the run is not its reader's.
                println!("{line}");
            }
        })
    }

    /// Sets the earlier durations of planned cases in milliseconds, from which the live lines estimate the remaining time.
    pub fn expect(&self, cases: BTreeMap<String, f64>) {
        self.state().screen.expected_ms = Some(cases);
    }

    /// Sets a condition; while it is true, the live lines show that the run is being stopped.
    pub fn stops_when(&self, stops: impl Fn() -> bool + Send + 'static) {
        self.state().stops = Some(Box::new(stops));
    }

    /// Shows the progress of work that is not a run of cases.
    pub fn show_amount(&self, amount: Amount) {
        self.state().screen.amount = Some(amount);
        self.begin_live();
    }

    /// Prints a message that is no event of a run, unless `--quiet` is given.
    pub fn say(&self, text: &str) {
        if self.detail != Detail::Quiet {
            self.write(&text.lines().map(plain_text).collect::<Vec<_>>());
        }
    }

    /// Prints a warning, even with `--quiet`.
    pub fn warn(&self, text: &str) {
        let line = Line::of(Style::Caution, &format!("warning: {text}"));
        self.write(&[line.text(self.progress_paint)]);
    }

    /// Formats a line of a log for stdout.
    #[must_use]
    pub fn log_line(&self, line: &LogLine, clock: LogClock) -> String {
        logs::line(line, clock).text(self.result_paint)
    }

    /// Formats a digest of logs for stdout, with a title as the first line; returns the lines.
    #[must_use]
    pub fn log_digest(&self, title: &str, digest: &LogDigest) -> Vec<String> {
        logs::digest(title, digest).iter().map(|line| line.text(self.result_paint)).collect()
    }

    /// Runs a function that writes to the terminal itself; live lines are erased until the function returns.
    pub fn beside(&self, write: impl FnOnce()) {
        match &*self.live.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(live) => live.beside(write),
            None => write(),
        }
    }

    /// Ends the live lines and erases them; lines printed above them stay.
    pub fn end(&self) {
        drop(self.pulse.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.live.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Prints the result of a run: failures with their causes, noteworthy facts, the record's folder, the numbers of cases by outcome.
    pub fn show_result(&self, record: &RunRecord, folder: &Path) {
        self.end();
        self.print_result(record, folder, "latest");
    }

    /// Prints the result of an earlier run as it was printed at that run's end.
    pub fn show_past_run(&self, run: &PastRun) -> anyhow::Result<()> {
        let mut story = Story::default();
        let mut reader = EventReader::open(&run.folder)?;
        while let Some(stamped) = reader.next_event()? {
            story.apply(&stamped);
        }
        self.state().story = story;
        self.print_result(&run.record, &run.folder, &run.record.run_id);
        Ok(())
    }

    fn print_result(&self, record: &RunRecord, folder: &Path, name: &str) {
        let part = if self.detail == Detail::Quiet { Part::ProblemsAndEnd } else { Part::Whole };
        for line in self.result(record, folder, name, part) {
            println!("{}", line.text(self.result_paint));
        }
    }

    /// Prints the cases that did not pass on stderr, for verbs that print something other than a run's result on stdout.
    pub fn show_problems(&self, record: &RunRecord, folder: &Path) {
        self.end();
        let lines = self.result(record, folder, "latest", Part::Problems);
        self.write(&lines.iter().map(|line| line.text(self.progress_paint)).collect::<Vec<_>>());
    }

    fn result(&self, record: &RunRecord, folder: &Path, name: &str, part: Part) -> Vec<Line> {
        let page = folder.join("report.html");
        let page = input::is_file(&page).then(|| shown(&page));
        let state = self.state();
        let result = RunResult {
            record,
            story: &state.story,
            name,
            folder: &shown(folder),
            page: page.as_deref(),
            columns: columns_of(&Term::stdout()),
        };
        result.lines(part)
    }

    fn show(&self, stamped: &Stamped) {
        let lines = {
            let mut state = self.state();
            state.screen.apply(stamped);
            state.story.apply(stamped);
            state.heard = Instant::now();
            state.said = state.heard;
            if self.shows_live && self.detail == Detail::Normal {
                let columns = columns_of(&Term::stderr());
                scroll::lasting(&stamped.event, columns.saturating_sub(1))
            } else {
                scroll::stamped(stamped, self.detail)
            }
        };
        self.begin_live();
        self.begin_pulse();
        self.write(&lines.iter().map(|line| line.text(self.progress_paint)).collect::<Vec<_>>());
    }

    fn write(&self, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        match &*self.live.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(live) => live.print(lines),
            // A terminal that was closed takes no line, and that ends no run.
            None => lines.iter().for_each(|line| drop(writeln!(io::stderr().lock(), "{line}"))),
        }
    }

    fn begin_live(&self) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.shows_live || live.is_some() {
            return;
        }
        let (state, paint) = (Arc::clone(&self.state), self.progress_paint);
        *live = Some(Live::start(move |columns| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.stops.as_ref().is_some_and(|stops| stops()) {
                state.screen.stops = true;
            }
            let now_ms = state.screen.at_ms + state.heard.elapsed().as_secs_f64() * 1e3;
            state.screen.frame(now_ms, columns, paint)
        }));
    }

    /// Starts a thread that prints the line of a long wait again and again, unless live lines show the wait.
    fn begin_pulse(&self) {
        let mut pulse = self.pulse.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shows_live || self.detail == Detail::Quiet || pulse.is_some() {
            return;
        }
        let (state, paint) = (Arc::clone(&self.state), self.progress_paint);
        *pulse = Some(Pulse::start(move || {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let now_ms = state.screen.at_ms + state.heard.elapsed().as_secs_f64() * 1e3;
            if state.said.elapsed() >= SILENCE_MAX
                && let Some(wait) = state.screen.wait(now_ms)
            {
                state.said = Instant::now();
                let _ = writeln!(
                    io::stderr().lock(),
                    "{}",
                    Line::of(Style::Faint, &format!("[{}] ", stamp(now_ms))).with(Style::Plain, &wait).text(paint)
                );
            }
        }));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn columns_of(terminal: &Term) -> usize {
    terminal.size_checked().map_or(COLUMNS_WITHOUT_TERMINAL, |(_, columns)| columns.into())
}

/// Returns a path relative to the working directory if it lies in there, else unchanged.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

/// Interval at which a [`Pulse`] calls its function.
const LOOK: Duration = Duration::from_millis(200);

/// Time without a printed line after which the line of a wait is printed again.
const SILENCE_MAX: Duration = Duration::from_millis(1500);

/// Handle of a thread that calls a function every [`LOOK`]; the thread ends when the handle is dropped.
#[derive(Debug)]
struct Pulse {
    _ends_when_dropped: Sender<()>,
}

impl Pulse {
    pub fn start(look: impl Fn() + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            while receiver.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                look();
            }
        });
        Self { _ends_when_dropped: sender }
    }
}
