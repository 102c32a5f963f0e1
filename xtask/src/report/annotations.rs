//! Annotations of GitHub Actions, which GitHub shows beside the code: an error for each problem of a failed case, at the place of its
//! check.

use std::path::{Path, PathBuf};

use super::problem::{Problem, ending, problems};
use crate::input;
use crate::record::{Outcome, PastRun, RunEvents, Verdict};

/// Maximum annotations of one case; GitHub shows at most ten of a CI step.
const PROBLEMS_MAX: usize = 3;

/// Folders of the checked-out repository, from which annotations compute the path of a source file.
#[derive(Debug, Clone)]
pub struct Checkout {
    /// Folder of the whole repository, absolute.
    pub root: PathBuf,
    /// Folder of the project (the one with `e2e.toml`), absolute.
    pub project: PathBuf,
    /// Folder of the project's scenarios, absolute.
    pub scenarios: PathBuf,
}

impl Checkout {
    /// Returns a source file's path relative to the repository's folder. A scenario names the file relative to the folder in which
    /// the scenario was compiled, relative to its own folder, or absolutely; the name of a file that is not found is unchanged.
    fn path_of(&self, scenario: &str, file: &str) -> String {
        let below = |path: &Path| path.strip_prefix(&self.root).ok().map(|path| path.display().to_string());
        let named = Path::new(file);
        if named.is_absolute() {
            return below(named).unwrap_or_else(|| file.to_owned());
        }
        let own = self.scenarios.join(scenario);
        let above = self.project.ancestors().take_while(|folder| folder.starts_with(&self.root));
        let found =
            std::iter::once(own.as_path()).chain(above).map(|folder| folder.join(named)).find(|it| input::is_file(it));
        found.and_then(|path| below(&path)).unwrap_or_else(|| file.to_owned())
    }
}

/// Returns the annotations in the order of the cases: errors for failed cases, warnings for flaky ones.
#[must_use]
pub fn make(run: &PastRun, events: &RunEvents, checkout: &Checkout) -> Vec<String> {
    let mut lines = Vec::new();
    for case in &run.record.cases {
        let level = match case.verdict {
            Verdict::Failed | Verdict::Infrastructure => "error",
            Verdict::Flaky => "warning",
            Verdict::Passed | Verdict::Interrupted | Verdict::Skipped => continue,
        };
        let bad = |outcome: &Outcome| matches!(outcome, Outcome::Failed { .. } | Outcome::Infrastructure { .. });
        let Some(index) = case.attempts.iter().position(|attempt| bad(&attempt.outcome)) else { continue };
        let told = events.attempt(&case.case, index + 1);
        let problems = told.map(problems).unwrap_or_default();
        let mut placed: Vec<&Problem> = problems.iter().filter(|one| one.place.is_some()).collect();
        let left_out = placed.len().saturating_sub(PROBLEMS_MAX);
        placed.truncate(PROBLEMS_MAX);
        let title = property(&case.case.0);
        let scenario = case.case.0.split(':').next().unwrap_or_default();
        for (number, problem) in placed.iter().enumerate() {
            let Some((file, line)) = &problem.place else { continue };
            let file = property(&checkout.path_of(scenario, file));
            let text = if problem.values.is_empty() {
                problem.title.clone()
            } else {
                format!("{}\n{}", problem.title, problem.values)
            };
            let is_last = number + 1 == placed.len();
            let more =
                if is_last && left_out > 0 { format!("\n{left_out} more stand in report.html") } else { String::new() };
            let text = text + &more;
            lines.push(format!("::{level} file={file},line={line},title={title}::{}", message(&text)));
        }
        if placed.is_empty() {
            let text = ending(&case.attempts[index].outcome).unwrap_or_default();
            lines.push(format!("::{level} title={title}::{}", message(&text)));
        }
    }
    lines
}

/// Escapes the text of an annotation, which stands after its second `::`.
fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of an annotation, such as the file's name; properties stand before its second `::`.
fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_from_the_top_of_the_repository() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let project = root.join("tests/project");
        let scenarios = project.join("scenarios");
        std::fs::create_dir_all(scenarios.join("a/b")).unwrap();
        std::fs::write(scenarios.join("a/b/main.rs"), "").unwrap();
        std::fs::write(scenarios.join("a/b/main.py"), "").unwrap();
        let checkout = Checkout { root: root.clone(), project: project.clone(), scenarios: scenarios.clone() };
        let check = |file: &str, expected: &str| assert_eq!(checkout.path_of("a/b", file), expected);
        let (rust, python) = ("tests/project/scenarios/a/b/main.rs", "tests/project/scenarios/a/b/main.py");
        check(rust, rust); // as Rust names it, from the workspace
        check("scenarios/a/b/main.rs", rust); // from the project
        check("main.py", python); // as Python names it, from the scenario's folder
        check(&scenarios.join("a/b/main.py").display().to_string(), python);
        check("/usr/lib/python3/x.py", "/usr/lib/python3/x.py");
        check("gone.rs", "gone.rs");
    }

    #[test]
    fn nothing_in_a_text_ends_a_line_or_begins_another_command() {
        assert_eq!(message("100 %\n::error::x"), "100 %25%0A::error::x");
        assert_eq!(property("a:b,c%"), "a%3Ab%2Cc%25");
    }
}
