//! Layout of the help: examples first, verbs in groups, options of all verbs at the end. `-h` shows the first paragraph of each text, and
//! `--help` all of it.

use clap::builder::styling::Style;
use clap::builder::{Resettable, StyledStr};
use clap::{Arg, ArgAction, Command};

use crate::program;

/// Groups of verbs, in the order in which a newcomer meets them; the help lists verbs by group, and a test requires each verb in one group.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Run scenarios", &["e2e", "defects", "new", "init", "runs", "report", "merge", "bundle", "test"]),
    ("Look inside", &["up", "ps", "shell", "exec", "logs", "cp", "forward", "pcap", "ttl", "down"]),
    ("Inject faults", &["fault", "shrink", "mutants"]),
    ("Measure", &["baseline", "baseline-update", "judge-check"]),
    ("Build machines", &["image"]),
    ("This machine", &["doctor", "setup", "config", "dist", "clean"]),
];

/// Width in columns of the list of verbs, on wider terminals too.
const COLUMNS: usize = 79;
/// Column in which the description of a verb begins.
const ABOUT_COLUMN: usize = 19;

/// Clap's own template of a help text, with the examples moved to the top.
const TEMPLATE: &str = "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}\n";

/// Returns clap's description of the command line with the whole layout of its help: examples, groups of verbs, headings.
pub fn dressed(command: Command) -> Command {
    let header = *command.get_styles().get_header();
    let verbs = verbs(&command, header);
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help).global(true);
    let version = Arg::new("version").short('V').long("version").action(ArgAction::Version);
    let top = format!(
        "{{about-with-newline}}\n{{before-help}}{{usage-heading}} {{usage}}\n\n{verbs}\n\n\
         {header}{EVERYWHERE}:{header:#}\n{{options}}{{after-help}}\n"
    );
    let command = command
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(help.help("Print help; -h is short, --help has examples and details").help_heading(EVERYWHERE))
        .arg(version.help("Print version").help_heading(EVERYWHERE));
    named(with_template(command).help_template(top)).name(program::name()).bin_name(program::name())
}

/// Replaces `cargo xtask` by the program's own name in every text of the help.
fn named(command: Command) -> Command {
    let own = |text: Option<&StyledStr>| {
        Resettable::from(text.map(|text| StyledStr::from(program::named(&text.ansi().to_string()))))
    };
    let (about, long_about) = (own(command.get_about()), own(command.get_long_about()));
    let header = *command.get_styles().get_header();
    let examples = command.get_before_long_help().map(|text| {
        let text = text.ansi().to_string();
        StyledStr::from(text.replacen("Examples:", &format!("{header}Examples:{header:#}"), 1))
    });
    let (before, long_before) = (own(command.get_before_help()), own(examples.as_ref()));
    let (after, long_after) = (own(command.get_after_help()), own(command.get_after_long_help()));
    let command = command.about(about).long_about(long_about).before_help(before).before_long_help(long_before);
    let command = command.after_help(after).after_long_help(long_after).mut_args(|arg| {
        let (help, long) = (own(arg.get_help()), own(arg.get_long_help()));
        arg.help(help).long_help(long)
    });
    command.mut_subcommands(named)
}

fn with_template(command: Command) -> Command {
    command.help_template(TEMPLATE).mut_subcommands(with_template)
}

/// Returns the list of verbs by group; verbs without a group come last.
fn verbs(command: &Command, header: Style) -> String {
    let shown: Vec<&Command> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).collect();
    let of_no_group = shown.iter().map(|verb| verb.get_name()).filter(|name| group_of(name).is_none()).collect();
    let groups = GROUPS.map(|(title, names)| (title, names.to_vec()));
    let groups = groups.into_iter().chain([("Other", of_no_group)]).filter(|(_, names)| !names.is_empty());
    let lines = |(title, names): (&str, Vec<&str>)| {
        let verbs = names.iter().filter_map(|name| shown.iter().find(|verb| verb.get_name() == *name));
        let verbs: Vec<String> = verbs.map(|verb| line(verb)).collect();
        format!("{header}{title}:{header:#}\n{}", verbs.join("\n"))
    };
    groups.map(lines).collect::<Vec<_>>().join("\n\n")
}

fn group_of(verb: &str) -> Option<&'static str> {
    GROUPS.iter().find(|(_, names)| names.contains(&verb)).map(|(title, _)| *title)
}

fn line(verb: &Command) -> String {
    let about = program::named(&verb.get_about().map(StyledStr::to_string).unwrap_or_default());
    let begin = format!("  {:<width$}", verb.get_name(), width = ABOUT_COLUMN - 2);
    let indent = " ".repeat(ABOUT_COLUMN);
    textwrap::fill(&about, textwrap::Options::new(COLUMNS).initial_indent(&begin).subsequent_indent(&indent))
}

/// Heading of options that choose cases.
pub const CHOOSING: &str = "Choosing";
/// Heading of options for the way in which cases run.
pub const RUNNING: &str = "Running";
/// Heading of options that inject faults.
pub const CHAOS: &str = "Chaos";
/// Heading of options for measurement and comparison.
pub const PERFORMANCE: &str = "Performance";
/// Heading of options that keep labs, or pause cases for a look inside.
pub const LOOKING_INSIDE: &str = "Looking inside";
/// Heading of options for names, slots and packages on this host.
pub const MACHINE: &str = "Machine";
/// Heading of options that every verb has.
pub const EVERYWHERE: &str = "For every verb";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::Cli;
    use super::*;

    /// Returns the help of a verb without colors.
    fn help(words: &[&str]) -> String {
        let line = ["cargo xtask"].iter().chain(words);
        let error = dressed(Cli::command()).try_get_matches_from(line).unwrap_err();
        error.render().to_string()
    }

    #[test]
    fn every_verb_stands_in_one_group() {
        let command = Cli::command();
        let shown: Vec<&str> =
            command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(Command::get_name).collect();
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        for verb in &shown {
            let count = grouped.iter().filter(|name| *name == verb).count();
            assert_eq!(count, 1, "{verb} stands in {count} groups of GROUPS: write it into one");
        }
        for name in grouped {
            assert!(shown.contains(&name), "GROUPS has {name}, and there is no such verb");
        }
    }

    #[test]
    fn the_list_of_verbs_has_a_line_each() {
        let command = Cli::command();
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let line = line(verb);
            assert!(
                !line.contains('\n'),
                "the first paragraph of {} is too long for the list:\n{line}",
                verb.get_name()
            );
        }
    }

    #[test]
    fn the_short_help_is_shorter_and_both_fit() {
        let all: Vec<Vec<String>> = std::iter::once(Vec::new()).chain(lines(&Cli::command(), &[])).collect();
        assert!(all.len() > 30, "only {} verbs", all.len());
        for words in all {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let (short, long) = (help(&[&words[..], &["-h"]].concat()), help(&[&words[..], &["--help"]].concat()));
            assert!(short.lines().count() <= long.lines().count(), "{words:?}\n{short}");
            for line in short.lines().chain(long.lines()) {
                assert!(line.chars().count() <= 100, "{words:?}: {line}");
            }
        }
    }

    /// Returns the command line words of each verb, including verbs below other verbs.
    fn lines(command: &Command, above: &[String]) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let words = [above, &[verb.get_name().to_owned()]].concat();
            found.extend(lines(verb, &words));
            found.push(words);
        }
        found
    }

    #[test]
    fn examples_come_first_and_what_every_verb_takes_last() {
        let text = help(&["e2e", "--help"]);
        let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what:?} in\n{text}"));
        let order = [
            "Run scenarios",
            "Examples:",
            "Usage:",
            "Choosing:",
            "Running:",
            "Chaos:",
            "Performance:",
            "Looking inside:",
            "Machine:",
            "For every verb:",
            "Exit codes:",
        ];
        let places = order.map(place);
        assert!(places.is_sorted(), "{places:?} of {order:?} in\n{text}");
        assert!(!text.contains("\nOptions:"), "an option of e2e has no heading:\n{text}");
        assert!(!help(&["e2e", "-h"]).contains("Examples:"));
    }
}
