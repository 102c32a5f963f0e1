//! Command lines of the engine in texts, and whether they can be typed.

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use xtask::cli::Cli;

#[path = "typed_words.rs"]
mod typed_words;

/// Stands for a recipe's parameters, of which there may be none.
const PARAMETERS: &str = "PARAMETERS";

/// Every `cargo xtask ...` of a text, as words, with its line. In prose it ends with its backtick.
pub fn command_lines(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.replace("\"$@\"", PARAMETERS);
        for (at, _) in line.match_indices("cargo xtask ") {
            found.push((number + 1, typed_words::words(&line[at..])));
        }
    }
    found
}

/// Returns everything that the help of a command says, and of those below it, with the words that lead to it.
pub fn help_texts(command: &clap::Command) -> Vec<(String, String)> {
    let own = [
        command.get_about(),
        command.get_long_about(),
        command.get_before_help(),
        command.get_before_long_help(),
        command.get_after_help(),
        command.get_after_long_help(),
    ];
    let of_options = command.get_arguments().flat_map(|option| [option.get_help(), option.get_long_help()]);
    let texts = own.into_iter().chain(of_options).flatten().map(ToString::to_string);
    let mut found = vec![(String::new(), texts.collect::<Vec<_>>().join("\n"))];
    for verb in command.get_subcommands() {
        let below = help_texts(verb).into_iter();
        found.extend(below.map(|(words, text)| (format!("{} {words}", verb.get_name()).trim_end().to_owned(), text)));
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
    fn the_help_of_every_command_is_read() {
        let below = clap::Command::new("c").after_help("cargo xtask c").arg(clap::arg!(--d).help("cargo xtask d"));
        let verb = clap::Command::new("b").subcommand(below);
        let texts = help_texts(&clap::Command::new("a").about("x").subcommand(verb));
        let expected = [("", "x"), ("b", ""), ("b c", "cargo xtask c\ncargo xtask d")];
        assert_eq!(texts, expected.map(|(words, text)| (words.to_owned(), text.to_owned())));
    }

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
