//! pip's requirements file with hashes: finding a package in it, and refusing unpinned lines.

/// Returns the package names in a requirements file, as the file writes them.
pub fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(name_of_line).collect()
}

/// Options of a requirements file that set the package index, each followed by a value.
const OF_INDEX: [&str; 4] = ["--index-url", "--extra-index-url", "--trusted-host", "-i"];

/// Options of a requirements file without effect, because the installer is started with them anyway.
const HARMLESS: [&str; 3] = ["--require-hashes", "--only-binary=:all:", "--no-deps"];

/// Finds the first line that is neither a pinned package nor an index option, and says why it is refused. The installer runs as root: an
/// option, path or URL in the file would make it read any file, or run the code of a source distribution.
pub fn problem(text: &str) -> Option<(usize, String)> {
    let lines = text.split('\n').enumerate();
    lines.filter_map(|(place, line)| Some((place + 1, problem_of_line(line)?))).next()
}

fn problem_of_line(line: &str) -> Option<String> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    // Installers take some of these for the end of a line, and of a comment.
    let is_odd = |c: char| c != '\t' && c.is_control() || "\u{85}\u{2028}\u{2029}".contains(c);
    if line.contains(is_odd) {
        return Some("the line has a control character".into());
    }
    let mut words = line.split_whitespace().take_while(|word| !word.starts_with('#')).filter(|word| *word != "\\");
    let mut package = String::new();
    while let Some(word) = words.next() {
        let word = word.strip_suffix('\\').unwrap_or(word);
        if OF_INDEX.contains(&word) {
            words.next();
        } else if let Some(hash) = word.strip_prefix("--hash=") {
            let is_hash = |c: char| c.is_ascii_alphanumeric() || c == ':';
            if !hash.chars().all(is_hash) {
                return Some(format!("{word:?} is no hash"));
            }
        } else if word.starts_with('-') {
            let is_index =
                OF_INDEX.iter().any(|option| word.strip_prefix(option).is_some_and(|rest| rest.starts_with('=')));
            if !is_index && !HARMLESS.contains(&word) {
                return Some(format!("{word:?} is an option that may read files or run code"));
            }
        } else {
            package += word;
            package.push(' ');
        }
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " ._-[],<>=!~;()\"'+*".contains(c);
    let is_pinned = package.contains("==") && package.chars().all(is_plain);
    (!package.is_empty() && !is_pinned)
        .then(|| format!("{:?} is no pinned package: write NAME==VERSION", package.trim()))
}

/// Tells whether two names mean the same Python package (PEP 503).
pub fn same_package(one: &str, other: &str) -> bool {
    normal(one) == normal(other)
}

/// Returns the normal form of a package's name (PEP 503): in lower case, with one `-` for each run of `-`, `_` and `.`.
pub fn normal(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split(['-', '_', '.']).filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

fn name_of_line(line: &str) -> Option<&str> {
    let starts_a_package = line.starts_with(|c: char| c.is_ascii_alphanumeric());
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(line.len());
    starts_a_package.then(|| &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# why\nmancer==0.1.4 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n\
                        typing-extensions==4.1 \\\n    --hash=sha256:cc\n";

    #[test]
    fn names_are_found() {
        assert_eq!(names(TEXT), ["mancer", "typing-extensions"]);
    }

    #[test]
    fn nothing_but_pinned_packages_and_their_index_is_taken() {
        for good in [
            TEXT,
            "",
            "\r\n# -r /x\n--index-url https://i/simple\n--extra-index-url=https://j\n--require-hashes\n",
            "a[b,c] == 1.0+local ; python_version < \"3.12\" and sys_platform == 'linux' --hash=sha256:aa # why: -e .\n",
        ] {
            assert_eq!(problem(good), None, "{good:?}");
        }
        for (line, expected) in [
            ("-r /root/other", "\"-r\" is an option"),
            ("--requirement=/root/other", "is an option"),
            ("a==1 --no-binary :all:", "\"--no-binary\" is an option"),
            ("a==1 --global-option=x", "is an option"),
            ("-e .", "is an option"),
            ("--find-links /home/u", "is an option"),
            ("a @ file:///home/u/a.tar.gz --hash=sha256:aa", "is no pinned package"),
            ("a@file:///home/u/a.tar.gz", "is no pinned package"),
            ("./a", "is no pinned package"),
            ("a.tar.gz", "is no pinned package"),
            ("a==1@file:///x", "is no pinned package"),
            ("a==${HOME}", "is no pinned package"),
            ("# why\u{b}-r /root/other", "control character"),
            ("# why\r-r /root/other", "control character"),
            ("# why\u{2028}-r /root/other", "control character"),
            ("a==1 --hash=sha256:aa\\", ""),
            ("--hash=$X", "is no hash"),
        ] {
            let text = format!("# why \\\n{line}\n");
            let found = problem(&text);
            let is_expected = match &found {
                None => expected.is_empty(),
                Some((place, why)) => *place == 2 && !expected.is_empty() && why.contains(expected),
            };
            assert!(is_expected, "{line:?}: {found:?}");
        }
    }

    #[test]
    fn names_are_the_same_in_any_spelling() {
        assert!(same_package("typing-extensions", "Typing_Extensions") && same_package("a-_b", "A.b"));
        assert!(!same_package("typing", "typing-extensions"));
    }
}
