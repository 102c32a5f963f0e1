//! Lines with colors, cut to a width or wrapped at blanks. Color is never the only signal.

use std::ffi::OsString;

use console::{measure_text_width, truncate_str};
use textwrap::{Options, WordSeparator, WordSplitter};

use crate::record::plain_text;

/// Maximum characters shown of a line; the record has the whole line.
const LINE_CHARS_SHOWN: usize = 300;
/// Maximum lines shown of one entry of the result.
const ENTRY_LINES_MAX: usize = 12;

/// Choice of the user whether output has colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// Colors on a terminal; `NO_COLOR` and `CLICOLOR_FORCE` are respected, in this order.
    Auto,
    /// Colors on every output, also files and pipes.
    Always,
    Never,
}

impl Color {
    /// Decides whether lines for a stream get colors, from the user's choice, the kind of the stream and environment variables.
    pub(super) fn paint(self, is_terminal: bool, variable: &dyn Fn(&str) -> Option<OsString>) -> Paint {
        let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        let colors = match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if is_set("NO_COLOR") => false,
            Self::Auto if variable("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0") => true,
            Self::Auto => is_terminal && variable("TERM").is_none_or(|terminal| terminal != "dumb"),
        };
        if colors { Paint::Colors } else { Paint::Plain }
    }
}

/// Rendering of styled lines as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// Lines are written with escape codes for colors.
    Colors,
    /// Lines are written without escape codes.
    Plain,
}

/// Meaning of a piece of a line, from which its color follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Good,
    Bad,
    Caution,
    Faint,
    Strong,
}

impl Style {
    fn escape_codes(self) -> console::Style {
        let style = console::Style::new().force_styling(true);
        match self {
            Self::Plain => style,
            Self::Good => style.green(),
            Self::Bad => style.red().bold(),
            Self::Caution => style.yellow(),
            Self::Faint => style.dim(),
            Self::Strong => style.bold(),
        }
    }
}

/// Line of text in pieces, each with a style. Control characters in their texts are removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line(Vec<(Style, String)>);

impl Line {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn of(style: Style, text: &str) -> Self {
        Self::new().with(style, text)
    }

    pub fn with(mut self, style: Style, text: &str) -> Self {
        self.0.push((style, plain_text(text)));
        self
    }

    /// Appends blanks up to a column, but at least one blank.
    pub fn up_to(self, column: usize) -> Self {
        let blanks = column.saturating_sub(self.width()).max(1);
        self.with(Style::Plain, &" ".repeat(blanks))
    }

    pub fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| measure_text_width(text)).sum()
    }

    pub fn text(&self, paint: Paint) -> String {
        let piece = |(style, text): &(Style, String)| match (paint, style) {
            (Paint::Plain, _) | (_, Style::Plain) => text.clone(),
            (Paint::Colors, style) => style.escape_codes().apply_to(text).to_string(),
        };
        self.0.iter().map(piece).collect()
    }

    /// Returns the line as text, cut to a width in columns.
    pub fn cut(&self, columns: usize, paint: Paint) -> String {
        truncate_str(&self.text(paint), columns, "…").into_owned()
    }
}

/// Wraps each line of a text at blanks to a width; a word that is longer than the width stays whole, so that it can be copied.
pub(super) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let options = Options::new(columns.max(20))
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    let lines = text.lines().map(|line| bounded(&plain_text(line)));
    lines.flat_map(|line| textwrap::wrap(&line, &options).into_iter().map(String::from).collect::<Vec<_>>()).collect()
}

/// Cuts a line that would fill a screen, and appends the number of omitted characters.
fn bounded(line: &str) -> String {
    match line.char_indices().nth(LINE_CHARS_SHOWN) {
        Some((end, _)) => format!("{} ... ({} more characters)", &line[..end], line[end..].chars().count()),
        None => line.to_owned(),
    }
}

/// Keeps the first `most` lines; if there are more, appends a line with the number of omitted lines.
pub(super) fn bound_lines(lines: &mut Vec<String>, most: usize) {
    if lines.len() > most {
        let left_out = lines.len() - most;
        lines.truncate(most);
        lines.push(format!("... and {left_out} more lines in e2e_test.log"));
    }
}

/// Returns an entry: a name on the first line, and beside it, in a column of its own, a wrapped text.
pub(super) fn entry(name: &str, style: Style, text: &str, indent: usize, columns: usize) -> Vec<Line> {
    let mut beside = wrapped(text, columns.saturating_sub(indent));
    bound_lines(&mut beside, ENTRY_LINES_MAX);
    let line = |(number, text): (usize, &String)| {
        let name = if number == 0 { format!("  {name}") } else { String::new() };
        Line::of(Style::Faint, &name).up_to(indent).with(style, text)
    };
    beside.iter().enumerate().map(line).collect()
}

/// Returns an entry whose text is commands: each in one line if there is room, else in several lines that a shell reads as one command.
pub(super) fn commands(name: &str, commands: &[String], indent: usize, columns: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for command in commands {
        let room = columns.saturating_sub(indent);
        let parts = if measure_text_width(command) <= room {
            vec![command.clone()]
        } else {
            wrapped(command, room.saturating_sub(4))
        };
        for (number, part) in parts.iter().enumerate() {
            let further = if number > 0 { "  " } else { "" };
            let open = if number + 1 < parts.len() { " \\" } else { "" };
            let name = if lines.is_empty() { format!("  {name}") } else { String::new() };
            let line = Line::of(Style::Faint, &name).up_to(indent);
            lines.push(line.with(Style::Plain, &format!("{further}{part}{open}")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_follow_the_flag_then_the_environment_then_the_stream() {
        let check = |color: Color, is_terminal: bool, variables: &[(&str, &str)], expected: Paint| {
            let variable =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
            assert_eq!(color.paint(is_terminal, &variable), expected, "{color:?} {is_terminal} {variables:?}");
        };
        check(Color::Auto, true, &[("TERM", "xterm")], Paint::Colors);
        check(Color::Auto, true, &[("TERM", "dumb")], Paint::Plain);
        check(Color::Auto, false, &[], Paint::Plain);
        check(Color::Auto, true, &[("NO_COLOR", "1")], Paint::Plain);
        check(Color::Auto, true, &[("NO_COLOR", "")], Paint::Colors);
        check(Color::Auto, false, &[("CLICOLOR_FORCE", "1")], Paint::Colors);
        check(Color::Auto, false, &[("CLICOLOR_FORCE", "0")], Paint::Plain);
        check(Color::Auto, true, &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], Paint::Plain);
        check(Color::Always, false, &[("NO_COLOR", "1")], Paint::Colors);
        check(Color::Never, true, &[("CLICOLOR_FORCE", "1")], Paint::Plain);
    }

    #[test]
    fn a_line_is_cut_by_columns_and_keeps_its_colors_closed() {
        let line = Line::of(Style::Good, "日本語").with(Style::Plain, " and more");
        assert_eq!(line.width(), 15);
        assert_eq!(line.cut(15, Paint::Plain), "日本語 and more");
        assert_eq!(line.cut(8, Paint::Plain), "日本語 …");
        assert_eq!(line.cut(4, Paint::Colors), "\u{1b}[32m日…\u{1b}[0m");
        assert_eq!(Line::of(Style::Bad, "a\u{1b}[2Jb\r\n").text(Paint::Plain), "ab");
    }

    #[test]
    fn what_would_fill_a_screen_is_cut() {
        let text = format!("{}\n{}", "x".repeat(1000), "y\n".repeat(50));
        let lines: Vec<String> =
            entry("values", Style::Plain, &text, 10, 80).iter().map(|line| line.text(Paint::Plain)).collect();
        assert_eq!(lines[0], format!("  values  {}", "x".repeat(300)));
        assert_eq!(lines[1], "          ... (700 more characters)");
        assert_eq!(lines[12], "          ... and 40 more lines in e2e_test.log");
        assert_eq!(lines.len(), 13);
    }

    #[test]
    fn words_wrap_at_blanks_and_long_ones_stay_whole() {
        let path = "/a/path/that/is/longer/than/the/width";
        let lines = entry("where", Style::Plain, &format!("it lies in {path} today\nor not"), 10, 30);
        let lines: Vec<String> = lines.iter().map(|line| line.text(Paint::Plain)).collect();
        assert_eq!(
            lines,
            ["  where   it lies in", &format!("          {path}"), "          today", "          or not"]
        );
    }
}
