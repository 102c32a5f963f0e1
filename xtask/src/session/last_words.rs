//! Reason for the failure of a scenario's program, found at the end of the program's output.

use std::path::Path;

use super::bounds::shorten;

/// Maximum length of the reason in characters.
const CHARS_MAX: usize = 400;

/// Finds the reason at the end of a program's output: an exception or panic with its place, a failed test of pytest, else the last line.
/// Paths in the project are made relative to its root.
pub fn last_words(output: &str, root: &Path) -> Option<String> {
    let lines: Vec<&str> = output.lines().map(str::trim_end).collect();
    let found = pytest(&lines).or_else(|| panic(&lines)).or_else(|| exception(&lines, root));
    let last = || lines.iter().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned());
    found.or_else(last).map(|words| shorten(&words, CHARS_MAX))
}

/// Finds a failed test of pytest, `FAILED test_x.py::test_a - AssertionError: ...`, with the place of its failure.
fn pytest(lines: &[&str]) -> Option<String> {
    let failed = lines.iter().rev().find(|line| {
        let what = line.strip_prefix("FAILED ").or_else(|| line.strip_prefix("ERROR "));
        what.is_some_and(|what| what.split(" - ").next().is_some_and(|test| test.contains(".py")))
    })?;
    let place = lines.iter().rev().find_map(|line| {
        let (file, rest) = line.split_once(".py:")?;
        let (number, error) = rest.split_once(": ")?;
        let is_place = !file.contains(' ') && number.parse::<u32>().is_ok() && !error.contains(' ');
        is_place.then(|| format!("{file}.py:{number}"))
    });
    Some(place.map_or_else(|| (*failed).to_owned(), |place| format!("{failed} at {place}")))
}

/// Finds a panic of Rust, `thread 'main' panicked at src/main.rs:3:5:`, with its message on the next line.
fn panic(lines: &[&str]) -> Option<String> {
    // The first one: those that follow from it say less.
    let (number, place) = lines.iter().enumerate().find_map(|(number, line)| {
        let (_, place) = line.strip_prefix("thread '")?.split_once(" panicked at ")?;
        Some((number, place.strip_suffix(':')?))
    })?;
    let place = place.rsplit_once(':').map_or(place, |(place, _column)| place);
    let message = lines.get(number + 1).map_or("panic", |message| message.trim());
    Some(format!("{message} at {place}"))
}

/// Finds the last exception of Python, with its innermost place in the project.
fn exception(lines: &[&str], root: &Path) -> Option<String> {
    let last_place = lines.iter().rposition(|line| line.trim_start().starts_with("File \""))?;
    let is_error = |line: &&&str| !line.is_empty() && !line.starts_with(' ');
    let error = lines[last_place..].iter().find(is_error)?;
    let begin = lines[..last_place].iter().rposition(|line| line.starts_with("Traceback ")).unwrap_or(last_place);
    let places = lines[begin..=last_place].iter().filter_map(|line| {
        let (file, rest) = line.trim_start().strip_prefix("File \"")?.split_once("\", line ")?;
        let number = rest.split(',').next()?;
        Some((Path::new(file), number))
    });
    let places: Vec<(&Path, &str)> = places.collect();
    let is_own = |file: &Path| file.starts_with(root) && !file.ends_with("sdk/e2e.py");
    let (file, number) = places.iter().rev().find(|(file, _)| is_own(file)).or(places.last())?;
    Some(format!("{error} at {}:{number}", file.strip_prefix(root).unwrap_or(file).display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(output: &str, expected: Option<&str>) {
        assert_eq!(last_words(output, Path::new("/p")).as_deref(), expected, "{output}");
    }

    #[test]
    fn an_exception_is_told_with_its_place_in_the_project() {
        check(
            "begin\nTraceback (most recent call last):\n  File \"/p/scenarios/t/x/main.py\", line 12, in <module>\n    \
             import nosuch\n  File \"/usr/lib/python3.11/y.py\", line 4, in g\n    raise ModuleNotFoundError\n\
             ModuleNotFoundError: No module named 'nosuch'\nsys:1: ResourceWarning: unclosed file\n",
            Some("ModuleNotFoundError: No module named 'nosuch' at scenarios/t/x/main.py:12"),
        );
        check(
            "  File \"/p/scenarios/t/x/main.py\", line 2\n    def scenario(lab:\n                ^\n\
             SyntaxError: '(' was never closed\n",
            Some("SyntaxError: '(' was never closed at scenarios/t/x/main.py:2"),
        );
        check(
            "Traceback (most recent call last):\n  File \"/p/a.py\", line 1, in f\n    x()\nKeyError: 'k'\n\nDuring handling of \
             the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"/q/b.py\", line \
             7, in g\n    y()\nValueError: no\n",
            Some("ValueError: no at /q/b.py:7"),
        );
    }

    #[test]
    fn a_panic_is_told_with_its_place() {
        check(
            "\nthread 'main' (77) panicked at scenarios/t/x/main.rs:3:5:\nno way\nnote: run with `RUST_BACKTRACE=1`\n",
            Some("no way at scenarios/t/x/main.rs:3"),
        );
    }

    #[test]
    fn a_test_of_pytest_is_told_with_its_place() {
        check(
            "    def test_a():\n>       assert 1 == 2\nE       assert 1 == 2\n\ntest_x.py:5: AssertionError\n=== short test summary info \
             ===\nFAILED test_x.py::test_a - assert 1 == 2\n=== 1 failed in 0.02s ===\n",
            Some("FAILED test_x.py::test_a - assert 1 == 2 at test_x.py:5"),
        );
    }

    #[test]
    fn anything_else_has_its_last_line() {
        check("one\nmain.sh: line 3: foo: not found\n\n", Some("main.sh: line 3: foo: not found"));
        check("ERROR no route\n", Some("ERROR no route"));
        check("", None);
        check(" \n\n", None);
        let long = last_words(&"x".repeat(5000), Path::new("/p")).unwrap();
        assert!(long.len() < 500 && long.ends_with(" [...]"), "{long}");
    }
}
