//! Command lines of the engine in texts, and whether they can be typed.

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use xtask::cli::Cli;

/// Stands for a recipe's parameters, of which there may be none.
const PARAMETERS: &str = "PARAMETERS";

/// Every `cargo xtask ...` of a text, as words, with its line. In prose it ends with its backtick.
pub fn command_lines(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.replace("\"$@\"", PARAMETERS);
        for (at, _) in line.match_indices("cargo xtask ") {
            let rest = &line[at..];
            let end = ["`", " #", " && ", "\"", "'"].iter().filter_map(|end| rest.find(end)).min();
            let words = rest[..end.unwrap_or(rest.len())].split_whitespace().skip(2);
            found.push((number + 1, words.map(str::to_owned).collect()));
        }
    }
    found
}

pub fn parse_as_typed(words: &[String]) -> Result<(), String> {
    let parse = |words: &mut dyn Iterator<Item = &str>| {
        let line = ["cargo xtask"].into_iter().chain(words);
        match Cli::command().try_get_matches_from(line) {
            // Instead of parameters a verb may want one of its own verbs, or a number.
            Err(error) if is_about_parameters(&error) => Ok(()),
            Err(error) if !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
                Err(error.to_string().lines().next().unwrap_or_default().to_owned())
            }
            _ => Ok(()),
        }
    };
    let words = words.iter().map(String::as_str);
    let without = words.clone().filter(|word| *word != PARAMETERS);
    // As many as a verb wants: some take a name and a command behind `--`.
    let with_command = words.clone().chain(["--", PARAMETERS]);
    let tries: [&mut dyn Iterator<Item = &str>; 3] =
        [&mut words.clone(), &mut without.clone(), &mut with_command.clone()];
    let is_recipe = words.clone().any(|word| word == PARAMETERS);
    let mut first = None;
    for words in tries.into_iter().take(if is_recipe { 3 } else { 1 }) {
        match parse(words) {
            Ok(()) => return Ok(()),
            Err(error) => drop(first.get_or_insert(error)),
        }
    }
    Err(first.unwrap_or_default())
}

fn is_about_parameters(error: &clap::Error) -> bool {
    let mut kinds = [ContextKind::InvalidSubcommand, ContextKind::InvalidValue].into_iter();
    kinds.any(|kind| matches!(error.get(kind), Some(ContextValue::String(word)) if word == PARAMETERS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_that_cannot_be_typed_is_seen() {
        let text = "`cargo xtask ps`, then\n  cargo xtask e2e --list # all\n    cargo xtask e2e \"$@\"\ncargo xtask image build --frobnicate";
        let lines = command_lines(text);
        let words: Vec<_> = lines.iter().map(|(line, words)| (*line, words.join(" "))).collect();
        let expected = [(1, "ps"), (2, "e2e --list"), (3, "e2e PARAMETERS"), (4, "image build --frobnicate")];
        assert_eq!(words.iter().map(|(line, words)| (*line, words.as_str())).collect::<Vec<_>>(), expected);
        let verdicts: Vec<bool> = lines.iter().map(|(_, words)| parse_as_typed(words).is_ok()).collect();
        assert_eq!(verdicts, [true, true, true, false]);
        assert!(parse_as_typed(&["no-such-verb".to_owned()]).is_err());
        let recipe = |line: &str| parse_as_typed(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).is_ok();
        assert!(recipe("fault PARAMETERS") && recipe("ttl PARAMETERS") && recipe("shell PARAMETERS"));
        assert!(!recipe("image frobnicate PARAMETERS") && !recipe("e2e --frobnicate PARAMETERS"));
    }
}
