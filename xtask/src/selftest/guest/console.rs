//! Console of a guest: the only evidence of a guest that was killed or hangs.

use std::path::Path;

const LINES: usize = 30;

/// Returns the last lines of a console, or a sentence that the console is empty.
#[must_use]
pub fn end_of(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let end = last_lines(&String::from_utf8_lossy(&bytes));
    let shown = path.display();
    if end.is_empty() {
        format!("its console ({shown}) is empty")
    } else {
        format!("the end of its console ({shown}):\n{end}")
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(plain).filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// Removes control characters from a line: a kernel's console may contain any bytes.
fn plain(line: &str) -> String {
    line.chars().filter(|character| !character.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_shown_without_control_characters() {
        let text: String = (0..100).map(|number| format!("line {number}\u{1b}\r\n\n")).collect();
        let end = last_lines(&text);
        assert_eq!(end.lines().count(), LINES);
        assert!(end.starts_with("    line 70\n") && end.ends_with("    line 99"), "{end}");
        assert!(end_of(Path::new("/nonexistent")).contains("is empty"));
    }
}
