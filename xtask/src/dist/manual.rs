//! The manual's pages and the completions of shells, made from the command line itself.

use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use super::NAME;

/// Name of the program in a checkout.
const IN_A_CHECKOUT: &str = "cargo xtask";

/// Returns the manual's pages, by file name: the program's own, and one for each verb that is shown.
///
/// # Errors
/// Never: they are written to memory.
pub fn pages(command: &Command) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut command = installed(command).disable_help_subcommand(true);
    let source = format!("{NAME} {}", command.get_version().unwrap_or_default());
    command.build(); // gives each verb its whole name, and the options of all verbs
    let mut pages = Vec::new();
    let mut open = vec![command];
    while let Some(command) = open.pop() {
        open.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned());
        let page = Man::new(command).source(source.as_str());
        let mut content = Vec::new();
        page.render(&mut content)?;
        pages.push((page.get_filename(), with_own_name(&content)));
    }
    pages.sort();
    Ok(pages)
}

/// Returns the script that a shell sources to complete the program's words.
#[must_use]
pub fn completion(command: &Command, shell: Shell) -> Vec<u8> {
    let mut content = Vec::new();
    generate(shell, &mut installed(command), NAME, &mut content);
    with_own_name(&content)
}

fn installed(command: &Command) -> Command {
    command.clone().name(NAME).bin_name(NAME).display_name(NAME)
}

/// Replaces the program's name in a checkout, which help is written with, by its installed name.
fn with_own_name(text: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(text).replace(IN_A_CHECKOUT, NAME).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let verb = Command::new("break").about("Break it, as `cargo xtask break` does").arg(clap::arg!(--hard "Hard"));
        let inner = Command::new("list").about("List");
        let hidden = Command::new("guard").hide(true);
        Command::new("cargo xtask")
            .bin_name("cargo xtask")
            .version("1.2")
            .subcommand(verb.subcommand(inner))
            .subcommand(hidden)
    }

    #[test]
    fn each_verb_that_is_shown_has_a_page() {
        let pages = pages(&command()).unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["mancer-e2e-break-list.1", "mancer-e2e-break.1", "mancer-e2e.1"]);
        let page = String::from_utf8(pages[1].1.clone()).unwrap();
        assert!(page.contains(".TH mancer-e2e-break 1") && page.contains("as `mancer-e2e break` does"), "{page}");
        assert!(page.contains("hard") && !page.contains("xtask"), "{page}");
    }

    #[test]
    fn each_shell_completes_the_verbs() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = String::from_utf8(completion(&command(), shell)).unwrap();
            assert!(text.contains("mancer-e2e") && text.contains("break") && text.contains("hard"), "{shell}: {text}");
            assert!(!text.contains("xtask"), "{shell}");
        }
    }
}
