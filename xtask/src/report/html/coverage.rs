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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{RunRecord, visible_text};

    const HOSTILE: &str = "</code><script>alert(1)</script>\u{1b}[31m";

    /// Returns the run of a package with so many functions, of which the first is called by a driver.
    fn run(folder: &std::path::Path, functions: usize) -> PastRun {
        let function = |number: usize| {
            let (function, file) = (format!("m:f{number}{HOSTILE}"), format!("m{}.py", number % 2));
            serde_json::json!({ "function": function, "file": file, "line": number, "does_nothing": false })
        };
        let functions: Vec<_> = (1..=functions).map(function).collect();
        let listed = serde_json::json!({ "package": "shop", "version": "1.2", "functions": functions });
        let mut coverage = Coverage::new("app", serde_json::from_value(listed).unwrap());
        coverage.add("a/b:c", &format!("call\tm:f1{HOSTILE}\t{HOSTILE}.py\ncall\tm:f2{HOSTILE}\tprobes.py\n"));
        coverage.count(&["probes.py".into()]);
        coverage.gaps.push(format!("a/b:c: {HOSTILE}"));
        std::fs::write(folder.join(COVERAGE_FILE), coverage.text().unwrap()).unwrap();
        let record = RunRecord { coverage: Some(coverage.recorded()), ..RunRecord::default() };
        PastRun { folder: folder.to_owned(), record }
    }

    #[test]
    fn functions_stand_below_their_file_with_their_callers() {
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder.path(), 3);
        let view = coverage(&run).unwrap();
        let numbers = |file: &FileView| [&file.functions, &file.drivers, &file.probes, &file.never].map(String::clone);
        let files: Vec<_> = view.files.iter().map(|file| (file.name.as_str(), numbers(file))).collect();
        let expected = [("m0.py", ["1", "0", "1", "0"]), ("m1.py", ["2", "1", "0", "1"])];
        assert_eq!(files, expected.map(|(name, numbers)| (name, numbers.map(str::to_owned))));
        let rows: Vec<_> = view.files[1].rows.iter().map(|row| (row.line, row.called.text, &*row.programs)).collect();
        assert_eq!(rows, [(1, "drivers", &*visible_text(&format!("{HOSTILE}.py"))), (3, "never", "")]);
        assert_eq!(
            view.sentence,
            "coverage of shop 1.2: 2 of 3 functions called, 1 by drivers, 1 by probes alone (incomplete: 1 gap)"
        );
        let shown = serde_json::to_string(&view).unwrap();
        assert!(!shown.contains("\\u001b") && view.left_out.is_none() && view.problem.is_none(), "{shown}");
        std::fs::write(folder.path().join(COVERAGE_FILE), "{").unwrap();
        let damaged = coverage(&run).unwrap();
        assert!(damaged.problem.unwrap().starts_with("coverage.json cannot be read: ") && damaged.files.is_empty());
        assert!(coverage(&PastRun { record: RunRecord::default(), ..run }).is_none());
    }

    #[test]
    fn of_a_large_package_what_drivers_call_is_left_out_first() {
        let folder = tempfile::tempdir().unwrap();
        let view = coverage(&run(folder.path(), SHOWN_MAX + 2)).unwrap();
        let rows = || view.files.iter().flat_map(|file| &file.rows);
        assert_eq!((rows().count(), view.left_out.as_deref()), (SHOWN_MAX, Some("2 functions")));
        assert!(rows().all(|row| row.called.text != "drivers"));
    }
}
