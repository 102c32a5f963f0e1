//! `cargo xtask doctor`: checks what the engine needs of this machine, with help for each problem.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use serde::Serialize;

use super::{Context, Format, sudo};
use crate::error::{EXIT_INFRASTRUCTURE, EXIT_PASSED};
use crate::guard::state_dir;
use crate::host::container::ids::{Ids, Region};
use crate::host::doctor::{Finding, Group, Status, Subject, examine, required_tools_missing};
use crate::host::invoker::is_root;
use crate::host::tools::packages::{Use, Uses};
use crate::image;
use crate::input;
use crate::manifest::{Network, Project};
use crate::program;
use crate::run::check_lab;

/// Options of `doctor`.
#[derive(Debug, clap::Args)]
#[command(before_long_help = "\
Examples:
  cargo xtask doctor
  cargo xtask doctor --as-root                     # asks for a password; makes one real lab")]
pub struct Args {
    /// Run all checks as root, through sudo.
    ///
    /// The last check creates a lab of one small machine and takes it down, which needs root.
    #[arg(long)]
    as_root: bool,
}

/// JSON document that `--format json` prints; its version is raised whenever its meaning changes.
#[derive(Serialize)]
struct Document<'a> {
    format_version: u32,
    findings: &'a [Finding],
}

/// Prints a line for each check; returns exit code 3 if a check failed.
///
/// # Errors
/// If `--as-root` is given and sudo is missing or refuses.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    if args.as_root && !is_root() {
        return sudo::again();
    }
    let findings = looked_at(&context.root);
    let text = match context.format {
        Format::Human => human(&findings),
        Format::Json => serde_json::to_string_pretty(&Document { format_version: 2, findings: &findings })? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    let has_failed = findings.iter().any(|finding| finding.status == Status::Failure);
    Ok(if has_failed { EXIT_INFRASTRUCTURE } else { EXIT_PASSED })
}

/// Runs all checks of this machine for the project in a folder; the last check creates a lab.
pub(super) fn looked_at(root: &Path) -> Vec<Finding> {
    let subject = subject(root);
    let mut findings = examine(&subject);
    findings.extend(damaged_layers());
    findings.push(lab(root, &subject));
    findings
}

/// Checks the store for damaged layers; `None` if none is damaged.
fn damaged_layers() -> Option<Finding> {
    let store = image::Store::of_this_machine();
    if !is_root() && store.damaged().is_err() {
        return Some(Finding::ok(Group::Lab, "layers", "skipped: only root can read the store"));
    }
    let damaged = store.damaged().unwrap_or_default();
    let (first, more) = (damaged.first()?, damaged.len() - 1);
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    let seen = format!("layer {} is damaged: {}{more}", first.0, first.1);
    Some(Finding::warning(Group::Lab, "layers", seen, "cargo xtask image prune"))
}

/// Checks that a small lab can be created and used; a warning if root or a required tool is missing.
fn lab(root: &Path, subject: &Subject) -> Finding {
    let (group, check) = (Group::Lab, "lab");
    if !is_root() {
        let seen = "skipped: creating a lab needs root";
        return Finding::warning(group, check, seen, "cargo xtask doctor --as-root");
    }
    // Those that this one lab needs, whatever the project's templates use.
    let missing = required_tools_missing(&Uses::from([Use::Busybox]));
    if let Some(first) = missing.first() {
        let names: Vec<_> = missing.iter().map(|missing| missing.tool).collect();
        return Finding::warning(
            group,
            check,
            format!("skipped: creating a lab needs {}", names.join(", ")),
            first.help.clone(),
        );
    }
    let network = Project::read(root).map_or(NETWORK, |project| project.network);
    match check_lab(network, &Ids::of_this_host(subject.region, &image::Store::of_this_machine().layers())) {
        Ok(took) => {
            let took = format!("{:.2} s", took.as_secs_f64());
            Finding::ok(group, check, format!("made, used and taken down within {took}"))
        }
        Err(error) => {
            let help = "fix the reported problem, then run: cargo xtask doctor";
            Finding::failure(group, check, format!("tried: {error:#}"), help)
        }
    }
}

/// Network of the test lab in a folder without a project; its addresses are not visible outside of the lab.
const NETWORK: Network = Network { base: Ipv4Addr::new(10, 77, 0, 0) };

/// File that only the engine's own repository has; if it exists, the tools that the engine's tests need are checked too.
const TEST_PROJECT: &str = "xtask/tests/project/e2e.toml";

/// Returns the requirements of the project in a folder; the defaults in a folder without a project, so that `doctor` works anywhere.
pub(super) fn subject(root: &Path) -> Subject {
    let target_dir = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
    let state_dir = state_dir();
    match Project::read(root) {
        Ok(project) => {
            let mut uses = image::uses(&project);
            if input::is_file(&root.join(TEST_PROJECT)) {
                uses.insert(Use::Guests);
            }
            Subject { target_dir, state_dir, region: Region { first: project.first_id }, uses }
        }
        Err(_) => {
            let region = Region { first: Project::FIRST_ID };
            Subject { target_dir, state_dir, region, uses: Use::OF_TEMPLATES.into() }
        }
    }
}

const WIDTH_COLUMNS: usize = 80;
const STATUS_COLUMNS: usize = 9;
const CHECK_COLUMNS: usize = 20;

pub(super) fn human(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut group = None;
    for finding in findings {
        if group != Some(finding.group) {
            let gap = if group.is_some() { "\n" } else { "" };
            let _ = writeln!(text, "{gap}{}", finding.group.name());
            group = Some(finding.group);
        }
        text.push_str(&line(finding));
    }
    let _ = writeln!(text, "\n{}", summary(findings));
    text
}

/// Formats a finding: status, check and observation, wrapped; then the help, which is never wrapped so that it can be copied.
fn line(finding: &Finding) -> String {
    let status = match finding.status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Failure => "failure",
    };
    let indent = " ".repeat(2 + STATUS_COLUMNS + CHECK_COLUMNS);
    let mut text = format!("  {status:STATUS_COLUMNS$}{:CHECK_COLUMNS$}", finding.check);
    let lines = finding.seen.lines().flat_map(|line| wrap(line, WIDTH_COLUMNS - indent.len()));
    text += &lines.collect::<Vec<_>>().join(&format!("\n{indent}"));
    if let Some(help) = &finding.help {
        let _ = write!(text, "\n  {:STATUS_COLUMNS$}help: {help}", "");
    }
    text + "\n"
}

fn summary(findings: &[Finding]) -> String {
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    let (warnings, failures) = (count(Status::Warning), count(Status::Failure));
    let plural = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let counts = format!("{} ok, {}, {}", count(Status::Ok), plural(warnings, "warning"), plural(failures, "failure"));
    let can_install = |status| findings.iter().any(|it| it.status == status && !it.items.is_empty());
    if can_install(Status::Failure) {
        format!("{counts}\n`{} setup` installs what is missing", program::name())
    } else if can_install(Status::Warning) {
        format!("{counts}\n`{} setup --optional` installs what is missing", program::name())
    } else {
        counts
    }
}

/// Wraps a text between words into lines of at most `columns` characters; a longer word gets a line of its own.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("the vector has at least one line");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= columns {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: &'static str, group: Group, status: Status, seen: &str) -> Finding {
        let help = (status != Status::Ok).then(|| "sudo mend it".to_owned());
        Finding { check, group, status, seen: seen.to_owned(), help, items: Vec::new(), command: None }
    }

    #[test]
    fn the_report_is_aligned_and_eighty_columns_wide() {
        let long = "no netem in this kernel, and this goes on for longer than what a terminal has room for";
        let text = human(&[
            finding("kernel", Group::Machine, Status::Ok, "Linux 6.1"),
            finding("lxc", Group::Containers, Status::Failure, "missing: lxc-start"),
            finding("cgroup-controllers", Group::Containers, Status::Warning, long),
        ]);
        let expected = "\
machine
  ok       kernel              Linux 6.1

containers
  failure  lxc                 missing: lxc-start
           help: sudo mend it
  warning  cgroup-controllers  no netem in this kernel, and this goes on for
                               longer than what a terminal has room for
           help: sudo mend it

1 ok, 1 warning, 1 failure
";
        assert_eq!(text, expected);
    }

    #[test]
    fn words_are_never_cut() {
        let check = |text: &str, columns: usize, expected: &[&str]| assert_eq!(wrap(text, columns), expected);
        check("a bb ccc", 4, &["a bb", "ccc"]);
        check("/a/very/long/path x", 4, &["/a/very/long/path", "x"]);
        check("", 4, &[""]);
    }

    #[test]
    fn the_json_has_five_keys_a_finding() {
        let findings = [finding("lxc", Group::Containers, Status::Failure, "missing: lxc-start")];
        let document = serde_json::to_value(Document { format_version: 2, findings: &findings }).unwrap();
        assert_eq!(
            document.to_string(),
            r#"{"format_version":2,"findings":[{"check":"lxc","group":"containers","status":"failure","seen":"missing: lxc-start","help":"sudo mend it"}]}"#
        );
    }
}
