//! The command lines that people read in a guide, and may type.

/// The words after `cargo xtask`, up to where the line says something else.
pub fn words(line: &str) -> Vec<String> {
    let end = ["`", " #", " && ", " | ", "\"", "'"].iter().filter_map(|end| line.find(end)).min();
    line[..end.unwrap_or(line.len())].split_whitespace().skip(2).map(str::to_owned).collect()
}
