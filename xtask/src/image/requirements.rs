//! A pip requirements file with hashes, as far as one package has to be found in it and taken out.

/// The names of the packages, as the file writes them.
pub fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(name_of_line).collect()
}

/// The text without one package and its hashes.
pub fn without(text: &str, package: &str) -> String {
    let mut kept = String::new();
    let mut continues_dropped = false;
    for line in text.lines() {
        let dropped = continues_dropped || name_of_line(line).is_some_and(|name| same_package(name, package));
        continues_dropped = dropped && line.trim_end().ends_with('\\');
        if !dropped {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Whether two names mean the same package: case, `-`, `_` and `.` make no difference (PEP 503).
pub fn same_package(one: &str, other: &str) -> bool {
    let normal = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-");
    normal(one) == normal(other)
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
    fn a_package_goes_with_its_hashes() {
        assert_eq!(without(TEXT, "mancer"), "# why\ntyping-extensions==4.1 \\\n    --hash=sha256:cc\n");
        assert_eq!(without(TEXT, "Typing_Extensions").lines().count(), 4);
        assert_eq!(without(TEXT, "typing"), TEXT);
    }
}
