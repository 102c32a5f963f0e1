//! Prompt of `e2e --break-on-failure`, which opens at the first failure of a case.

#![expect(clippy::print_stderr, reason = "it talks to whoever sits at the terminal, beside the run's results")]

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::enter::shell_in;
use super::lab_selector::lab_in;
use crate::manifest::nearest;
use crate::record::Onward;
use crate::report::terminal::Terminal;
use crate::run::{HeldCase, Interrupt, Watcher};

/// Interval at which the prompt checks for an interrupt of the run while it waits for input.
const POLL: Duration = Duration::from_millis(100);

const HELP: &str = "  shell NAME   a shell in a machine; `exit` comes back here
  machines     the machines of this lab
  continue     let the case go on
  give up      end the case and the run";

/// Prompt on the terminal for a case that is paused at its first failure.
#[derive(Debug)]
pub struct HoldPrompt {
    interrupt: Interrupt,
    terminal: Arc<Terminal>,
}

/// Command typed at the prompt.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Shell(Option<String>),
    Machines,
    Help,
    Onward(Onward),
    Unknown(String),
}

impl HoldPrompt {
    /// Returns a prompt that gives the paused case up when the run is interrupted.
    #[must_use]
    pub fn new(interrupt: Interrupt, terminal: Arc<Terminal>) -> Self {
        Self { interrupt, terminal }
    }

    /// Reads a line from the terminal; `None` at the end of the input, and when the run is interrupted.
    fn line(&self) -> Option<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            if self.interrupt.is_set() {
                return None;
            }
            let input = std::io::stdin();
            let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::try_from(POLL).unwrap_or(PollTimeout::ZERO)) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(_) => return None,
            }
            // Without a buffer of its own: what is typed ahead belongs to the shell that is opened.
            let mut byte = [0];
            match nix::unistd::read(input.as_fd(), &mut byte) {
                Ok(1) => line.push(byte[0]),
                Err(Errno::EINTR) => {}
                _ => return None,
            }
        }
        Some(String::from_utf8_lossy(&line).trim().to_owned())
    }
}

impl Watcher for HoldPrompt {
    /// Lets the user type commands at the prompt until a command ends the pause. Other output to the terminal is held back during the
    /// pause.
    fn look(&self, held: &HeldCase<'_>) -> Onward {
        let mut onward = Onward::GiveUp;
        self.terminal.beside(|| onward = self.ask(held));
        onward
    }
}

impl HoldPrompt {
    fn ask(&self, held: &HeldCase<'_>) -> Onward {
        eprintln!("\n{} is paused, with its faults and deadlines:\n  {}\n", held.case(), held.reason());
        machines(held);
        for problem in held.problems() {
            eprintln!("  {problem}");
        }
        eprintln!("{HELP}");
        loop {
            eprint!("(held) ");
            let Some(line) = self.line() else { return Onward::GiveUp };
            match parse(&line) {
                Answer::Onward(onward) => return onward,
                Answer::Help => eprintln!("{HELP}"),
                Answer::Machines => machines(held),
                Answer::Shell(name) => {
                    if let Err(error) = enter(held, name.as_deref()) {
                        eprintln!("{error:#}");
                    }
                }
                Answer::Unknown(word) => {
                    let known = ["shell", "machines", "continue", "give up"];
                    let near = nearest(&word, known).map_or_else(String::new, |near| format!(" Did you mean {near}?"));
                    eprintln!("{word:?} is not a command of this prompt.{near}\n{HELP}");
                }
            }
        }
    }
}

fn machines(held: &HeldCase<'_>) {
    for container in held.containers() {
        let machine = container.machine();
        let state = match container.outage() {
            None => "running".to_owned(),
            Some(outage) => format!("{}: {}", if outage.frozen { "frozen" } else { "down" }, outage.cause),
        };
        eprintln!("  {:<10} {:<14} template {}: {state}", machine.name, machine.address(), machine.template.name);
    }
    eprintln!();
}

/// Opens a shell in the machine of this name; without a name, in the only machine of the lab.
fn enter(held: &HeldCase<'_>, name: Option<&str>) -> anyhow::Result<()> {
    let names: Vec<&str> = held.containers().iter().map(|container| container.machine().name.as_str()).collect();
    let name = match (name, &names[..]) {
        (Some(name), _) if names.contains(&name) => name,
        (None, [only]) => only,
        _ => anyhow::bail!("type `shell NAME`, where NAME is one of the machines {}", names.join(", ")),
    };
    let lab = lab_in(held.slot())?;
    let status = held.enter(name, || lab.machine(name).map(shell_in))?;
    status.transpose()?;
    Ok(())
}

fn parse(line: &str) -> Answer {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["shell" | "s"] => Answer::Shell(None),
        ["shell" | "s", name] => Answer::Shell(Some(name.to_owned())),
        ["machines" | "m"] => Answer::Machines,
        ["continue" | "c"] => Answer::Onward(Onward::Continue),
        ["give", "up"] | ["quit" | "q"] => Answer::Onward(Onward::GiveUp),
        [] | ["help" | "h" | "?"] => Answer::Help,
        _ => Answer::Unknown(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        assert_eq!(parse("shell app"), Answer::Shell(Some("app".into())));
        assert_eq!(parse("s"), Answer::Shell(None));
        assert_eq!(parse(" continue "), Answer::Onward(Onward::Continue));
        assert_eq!(parse("give  up"), Answer::Onward(Onward::GiveUp));
        assert_eq!(parse(""), Answer::Help);
        assert_eq!(parse("give"), Answer::Unknown("give".into()));
    }
}
