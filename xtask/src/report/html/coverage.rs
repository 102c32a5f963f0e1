//! View of the coverage of the product: its functions by file, and the programs that called each.

use std::collections::BTreeMap;

use serde::Serialize;

use super::words::{Word, count, plain, thousands};
use crate::record::{COVERAGE_FILE, CalledBy, Coverage, CoveredFunction, PastRun};

/// Maximum functions shown on the page. Of a larger package, those that drivers call are left out first.
const SHOWN_MAX: usize = 3000;

/// Maximum characters shown of the programs that called a function.
const CALLERS_CHARS_MAX: usize = 200;

/// Coverage of the product in a run.
#[derive(Debug, Clone, Serialize)]
pub struct CoverageView {
    /// Numbers of functions in words.
    sentence: String,
    /// Sentences about missing calls.
    gaps: Vec<String>,
    files: Vec<FileView>,
    /// Number of functions that are not shown; absent where all are.
    left_out: Option<String>,
    /// Reason why the functions cannot be shown.
    problem: Option<String>,
}

/// File of the package with its functions.
#[derive(Debug, Clone, Serialize)]
struct FileView {
    name: String,
    functions: String,
    drivers: String,
    probes: String,
    never: String,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Serialize)]
struct Row {
    line: u32,
    function: String,
    called: Word,
    /// Programs that called the function.
    programs: String,
}

/// Returns the view of a run's coverage; `None` for a run that did not collect it.
pub fn coverage(run: &PastRun) -> Option<CoverageView> {
    let recorded = run.record.coverage.as_ref()?;
    let mut view = CoverageView {
        sentence: plain(&recorded.to_string(), 500),
        gaps: recorded.gaps.iter().map(|gap| plain(gap, 500)).collect(),
        files: Vec::new(),
        left_out: None,
        problem: None,
    };
    match Coverage::read(&run.folder) {
        Ok(coverage) => {
            let all = coverage.functions.len();
            let shows_all = all <= SHOWN_MAX;
            let is_shown = |one: &CoveredFunction| shows_all || one.called != CalledBy::Drivers;
            let mut room = SHOWN_MAX;
            let mut files: BTreeMap<&str, Vec<&CoveredFunction>> = BTreeMap::new();
            coverage.functions.iter().for_each(|one| files.entry(&one.file).or_default().push(one));
            for (name, functions) in files {
                let number = |called| thousands(functions.iter().filter(|one| one.called == called).count());
                let rows: Vec<Row> =
                    functions.iter().filter(|one| is_shown(one)).take(room).map(|one| row(one)).collect();
                room -= rows.len();
                view.files.push(FileView {
                    name: plain(name, 300),
                    functions: thousands(functions.len()),
                    drivers: number(CalledBy::Drivers),
                    probes: number(CalledBy::ProbesAlone),
                    never: number(CalledBy::Never),
                    rows,
                });
            }
            let shown = SHOWN_MAX - room;
            view.left_out = (shown < all).then(|| count(all - shown, "function", "functions"));
        }
        Err(error) => view.problem = Some(plain(&format!("{COVERAGE_FILE} cannot be read: {error}"), 500)),
    }
    Some(view)
}

fn row(function: &CoveredFunction) -> Row {
    let (_, name) = function.function.split_once(':').unwrap_or(("", &function.function));
    let programs: Vec<&str> = function.programs.keys().map(String::as_str).collect();
    let called = match function.called {
        CalledBy::Drivers => Word { class: "passed", text: "drivers" },
        CalledBy::ProbesAlone => Word { class: "flaky", text: "probes alone" },
        CalledBy::Never => Word { class: "skipped", text: "never" },
    };
    let programs = plain(&programs.join(", "), CALLERS_CHARS_MAX);
    Row { line: function.line, function: plain(name, 300), called, programs }
}
