//! Setup: installs what doctor finds missing.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::packages::{Item, Manager, Need, Order, Supply, WayToRoot};
use crate::error::Error;
use crate::host::doctor::{Finding, Status, Subject, examine};
use crate::host::exec::shell::run_interactive;
use crate::host::patience::Deadline;
use crate::host::syntax::{Text, compose};

/// Plan of changes to this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Commands in order, without the way to root.
    pub commands: Vec<Vec<String>>,
    /// Steps for a person, where the package manager has no package.
    pub by_hand: Vec<&'static str>,
    /// Way in which the commands get root's rights.
    pub way_to_root: WayToRoot,
}

/// Progress of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News<'a> {
    /// Line for people about a command that begins, a wait, or a result.
    Line(&'a str),
    /// A command that still runs, with its time. On a terminal this need not be shown: package managers show their own progress.
    GoesOn(&'a str),
}

/// Choice of missing items to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Items that the engine needs.
    Required,
    /// Items that the engine needs, and those of its optional abilities and its own tests.
    Everything,
}

/// Deadline of a package manager's command: one that takes longer is taken to hang.
const INSTALL_DEADLINE: Deadline = Deadline::from_secs(1800);
/// Lock that apt holds while it refreshes its lists. `DPkg::Lock::Timeout` does not cover it: a second `apt-get update` fails at once.
const APT_LISTS_LOCK: &str = "/var/lib/apt/lists/lock";
const APT_LISTS_DEADLINE: Deadline = Deadline::from_secs(300);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Time after which a wait is announced again.
const PULSE: Duration = Duration::from_millis(1500);

impl Plan {
    /// Makes a plan that fixes these findings.
    ///
    /// # Errors
    /// [`Error::Host`] where this machine's tools come from elsewhere: Nix, or a package manager that is not known.
    pub fn new(findings: &[Finding], scope: Scope) -> Result<Self, Error> {
        let mut plan = Self::of_items(&missing_items(findings, scope))?;
        plan.commands.extend(shell_commands(findings));
        Ok(plan)
    }

    fn of_items(items: &[&'static str]) -> Result<Self, Error> {
        Self::with(items, Supply::of_this_machine(), WayToRoot::of_this_process())
    }

    fn with(items: &[&'static str], supply: Supply, way_to_root: WayToRoot) -> Result<Self, Error> {
        let none = Self { commands: Vec::new(), by_hand: Vec::new(), way_to_root };
        if items.is_empty() {
            return Ok(none);
        }
        match supply {
            Supply::Packages(manager) => Ok(none.filled(manager, items)),
            Supply::Nix => Err(Error::Host {
                problem: format!("missing: {}. Under Nix nothing is installed into the system", items.join(", ")),
                help: "nix develop".to_owned(),
            }),
            Supply::Unknown => Err(Error::Host {
                problem: "this machine has no known package manager: apt-get, dnf, pacman or zypper".to_owned(),
                help: supply.help(items, way_to_root),
            }),
        }
    }

    fn filled(self, manager: Manager, items: &[&str]) -> Self {
        let Order { packages, by_hand } = Order::new(manager, items);
        let commands = if packages.is_empty() { Vec::new() } else { manager.install(&packages) };
        Self { commands, by_hand, ..self }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.by_hand.is_empty()
    }

    /// Returns the commands as a person types them.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.commands.iter().map(|command| self.way_to_root.line(command)).collect()
    }

    /// Runs the commands on the caller's terminal, so that sudo can ask for a password and Ctrl-C reaches them. Their output goes to
    /// stderr. Can be run twice. `announce` is called repeatedly with the command or the wait in progress.
    ///
    /// # Errors
    /// [`Error::Host`] when the last command fails. Failures of earlier ones, which only refresh lists, are ignored: the last one shows
    /// whether they mattered.
    pub fn carry_out(&self, announce: &(dyn Fn(News<'_>) + Sync)) -> anyhow::Result<()> {
        let lines = self.lines();
        let began = Instant::now();
        let (mut announced, deadline) = (began, APT_LISTS_DEADLINE.scaled());
        while !lines.is_empty() && is_locked(Path::new(APT_LISTS_LOCK)) && began.elapsed() < deadline {
            std::thread::sleep(POLL_INTERVAL);
            if announced.elapsed() >= PULSE {
                let line = format!("waiting: another process refreshes apt's lists, {} s", began.elapsed().as_secs());
                announce(News::Line(&line));
                announced = Instant::now();
            }
        }
        let seconds = INSTALL_DEADLINE.scaled().as_secs();
        for (index, line) in lines.iter().enumerate() {
            let guarded = compose!(
                Shell,
                "exec timeout --foreground --kill-after=10 {seconds} {line} >&2",
                seconds = seconds,
                line = Text::as_written(line),
            );
            let words = ["-c", guarded.as_script()].map(str::to_owned);
            let status = with_pulse(PULSE, line, announce, || run_interactive("sh", &words))?;
            if status != 0 && index + 1 == lines.len() {
                return Err(Error::Host {
                    problem: format!("`{line}` ended with status {status}, for the reason that it printed above"),
                    help: "fix the problem, then run `cargo xtask setup` again".to_owned(),
                }
                .into());
            }
        }
        Ok(())
    }
}

/// Runs `work`, and announces every `pulse` that the command `what` still runs.
fn with_pulse<T>(pulse: Duration, what: &str, announce: &(dyn Fn(News<'_>) + Sync), work: impl FnOnce() -> T) -> T {
    let (ends, end) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let began = Instant::now();
            while end.recv_timeout(pulse) == Err(RecvTimeoutError::Timeout) {
                announce(News::GoesOn(&format!("`{what}` runs, {} s", began.elapsed().as_secs())));
            }
        });
        let done = work();
        drop(ends);
        done
    })
}

/// Installs all missing items without asking, and checks the machine again. Optional ones may stay missing. `announce` is called with each
/// command before it runs, and with what is still missing afterwards.
///
/// # Errors
/// [`Error::Host`] when a command for required items fails, or the machine still fails a check.
pub fn install_missing(subject: &Subject, announce: &(dyn Fn(News<'_>) + Sync)) -> anyhow::Result<()> {
    announce(News::Line("looking at what this machine has"));
    install(&examine(subject), Scope::Everything, announce)?;
    let after = examine(subject);
    for finding in after.iter().filter(|it| it.status == Status::Warning && !it.items.is_empty()) {
        let help = finding.help.as_ref().map_or_else(String::new, |help| format!("; help: {help}"));
        announce(News::Line(&format!("warning: {}: {}{help}", finding.check, finding.seen)));
    }
    let failures: Vec<_> = after.into_iter().filter(|finding| finding.status == Status::Failure).collect();
    if failures.is_empty() { Ok(()) } else { Err(still_failing(&failures).into()) }
}

/// Installs what these findings miss, in one transaction where the package manager knows every name, else item by item. Returns the
/// commands that were run, in order. `announce` is called with each of them before it runs, and with the items that nothing was installed
/// for.
///
/// # Errors
/// [`Error::Host`] when a command for required items fails.
pub fn install(
    findings: &[Finding],
    scope: Scope,
    announce: &(dyn Fn(News<'_>) + Sync),
) -> anyhow::Result<Vec<String>> {
    let mut commands = Vec::new();
    let absent = install_with(findings, scope, Plan::of_items, |plan| {
        for line in plan.lines() {
            announce(News::Line(&line));
            commands.push(line);
        }
        plan.carry_out(announce)
    })?;
    for command in shell_commands(findings) {
        let way_to_root = WayToRoot::of_this_process();
        let plan = Plan { commands: vec![command], by_hand: Vec::new(), way_to_root };
        for line in plan.lines() {
            announce(News::Line(&line));
            commands.push(line);
        }
        plan.carry_out(announce)?;
    }
    if !absent.is_empty() {
        announce(News::Line(&format!(
            "not installed: {}: no package of this system could be installed for it",
            absent.join(", ")
        )));
    }
    Ok(commands)
}

/// Installs all items in one order. Where that fails and some are optional, installs the required ones together, then each other item
/// alone. Returns the items that nothing was installed for.
fn install_with(
    findings: &[Finding],
    scope: Scope,
    plan: impl Fn(&[&'static str]) -> Result<Plan, Error>,
    mut carry_out: impl FnMut(&Plan) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<&'static str>> {
    let all = missing_items(findings, scope);
    let is_required = |item: &&str| matches!(Item::named(item).need, Need::Required | Need::Where(_));
    let required: Vec<_> = all.iter().copied().filter(is_required).collect();
    let mut try_all = || carry_out(&plan(&all)?);
    match try_all() {
        Err(_) if all.len() > required.len() => {}
        done => return done.map(|()| Vec::new()),
    }
    carry_out(&plan(&required)?)?;
    let mut absent = Vec::new();
    for item in all.into_iter().filter(|item| !required.contains(item)) {
        let alone = plan(&[item]).map(|mut alone| {
            alone.commands.drain(..alone.commands.len().saturating_sub(1)); // its lists were refreshed just now
            alone
        });
        if !alone.is_ok_and(|alone| carry_out(&alone).is_ok()) {
            absent.push(item);
        }
    }
    Ok(absent)
}

/// Returns the error for failures that setup could not fix.
#[must_use]
pub fn still_failing(failures: &[Finding]) -> Error {
    let seen: Vec<_> = failures.iter().map(|finding| format!("{}: {}", finding.check, finding.seen)).collect();
    let all_help: Vec<_> = failures.iter().filter_map(|finding| finding.help.clone()).collect();
    Error::Host {
        problem: format!("this machine still fails checks that the engine needs to pass\n  {}", seen.join("\n  ")),
        help: all_help.join("\n        "),
    }
}

/// Tells whether any process holds a lock on this file, by the kernel's list, because a user may not open apt's lock.
fn is_locked(path: &Path) -> bool {
    let Ok(file) = path.metadata() else { return false };
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let (major, minor) = (nix::sys::stat::major(file.dev()), nix::sys::stat::minor(file.dev()));
    let name = format!("{major:02x}:{minor:02x}:{}", file.ino());
    locks.lines().any(|line| line.split_whitespace().any(|word| word == name))
}

/// Returns the shell commands that fix findings which no package fixes.
fn shell_commands(findings: &[Finding]) -> impl Iterator<Item = Vec<String>> {
    let lines = findings.iter().filter_map(|finding| finding.command.clone());
    lines.map(|line| vec!["sh".to_owned(), "-c".to_owned(), line])
}

fn missing_items(findings: &[Finding], scope: Scope) -> Vec<&'static str> {
    let items = findings.iter().flat_map(|finding| finding.items.iter().copied());
    let wanted = |need: Need| match need {
        Need::Required | Need::Where(_) | Need::Faults => true,
        Need::Tests | Need::Optional | Need::Repository => scope == Scope::Everything,
    };
    items.filter(|item| wanted(Item::named(item).need)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::doctor::Group;

    fn lacking(items: &[&'static str]) -> Vec<Finding> {
        let finding = Finding {
            check: "test",
            group: Group::Machine,
            status: Status::Failure,
            seen: "missing".to_owned(),
            help: Some("install it".to_owned()),
            items: items.to_vec(),
            command: None,
        };
        vec![finding]
    }

    const APT: Supply = Supply::Packages(Manager::Apt);

    fn apt(items: &[&'static str]) -> Result<Plan, Error> {
        Plan::with(items, APT, WayToRoot::Sudo)
    }

    #[test]
    fn optional_items_are_installed_only_when_asked_for() {
        let findings = lacking(&["lxc-start", "strace"]);
        let plan = |scope| apt(&missing_items(&findings, scope)).unwrap().lines().pop().unwrap();
        assert!(plan(Scope::Required).ends_with("--no-install-recommends lxc"), "{}", plan(Scope::Required));
        assert!(plan(Scope::Everything).ends_with("--no-install-recommends lxc strace"));
        assert!(plan(Scope::Everything).starts_with("sudo env DEBIAN_FRONTEND=noninteractive apt-get "));
    }

    /// Returns the packages of each order that was given, where orders with one of `unknown` fail.
    fn orders(lacking_items: &[&'static str], unknown: &[&str]) -> (Vec<String>, anyhow::Result<Vec<&'static str>>) {
        let mut given = Vec::new();
        let done = install_with(&lacking(lacking_items), Scope::Everything, apt, |plan| {
            let last = plan.lines().pop().unwrap_or_default();
            let packages = last.split_once("--no-install-recommends ").map_or("", |(_, packages)| packages).to_owned();
            let fails = packages.split(' ').any(|package| unknown.contains(&package));
            given.push(format!("{}: {packages}", plan.commands.len()));
            if fails { Err(anyhow::anyhow!("no package")) } else { Ok(()) }
        });
        (given, done)
    }

    #[test]
    fn what_is_optional_holds_nothing_else_up() {
        let missing = &["lxc-start", "tar", "strace", "chromium", "sudo"];
        let check = |lacking: &[&'static str], unknown: &[&str], expected: &[&str], absent: Option<&[&str]>| {
            let (given, done) = orders(lacking, unknown);
            assert_eq!(given, expected, "{lacking:?} without {unknown:?}");
            assert_eq!(done.ok().as_deref(), absent, "{lacking:?} without {unknown:?}");
        };
        check(missing, &[], &["2: lxc tar sudo strace chromium"], Some(&[]));
        let one_by_one = ["2: lxc tar sudo strace chromium", "2: lxc tar", "1: strace", "1: chromium", "1: sudo"];
        check(missing, &["chromium"], &one_by_one, Some(&["chromium"]));
        check(missing, &["chromium", "sudo"], &one_by_one, Some(&["chromium", "sudo"]));
        check(missing, &["lxc"], &one_by_one[..2], None); // what is required fails after one more try
        check(&["tar"], &["tar"], &["2: tar"], None); // there is nothing to leave out
        check(&["chromium"], &["chromium"], &["2: chromium", "0: ", "1: chromium"], Some(&["chromium"]));
        check(&["tar", "nft"], &["nftables"], &["2: tar nftables", "2: tar", "1: nftables"], Some(&["nft"]));
    }

    #[test]
    fn what_a_finding_says_is_run_once_and_not_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("subuid");
        std::fs::write(&file, "alice:100000:65536").unwrap();
        let line =
            crate::host::doctor::registration(&file.display().to_string(), "mancer-e2e", (1_879_048_192, 16_777_216));
        let finding = Finding { command: Some(line), ..lacking(&[]).remove(0) };
        let plan = Plan::new(std::slice::from_ref(&finding), Scope::Required).unwrap();
        assert!(!plan.is_empty() && plan.lines()[0].contains("mancer-e2e:1879048192:16777216"), "{plan:?}");
        // As root, and where that takes no password.
        if WayToRoot::of_this_process() == WayToRoot::Direct {
            assert_eq!(install(&[finding], Scope::Required, &|_| ()).unwrap().len(), 1);
            let text = std::fs::read_to_string(&file).unwrap();
            assert_eq!(text, "alice:100000:65536\nmancer-e2e:1879048192:16777216\n");
        }
    }

    #[test]
    fn where_nothing_is_missing_nothing_is_done() {
        for supply in [APT, Supply::Nix, Supply::Unknown] {
            let items = missing_items(&lacking(&["strace"]), Scope::Required);
            let plan = Plan::with(&items, supply, WayToRoot::Direct).unwrap();
            assert!(plan.is_empty(), "{plan:?}");
            plan.carry_out(&|_| ()).unwrap();
        }
    }

    #[test]
    fn what_has_no_package_is_left_to_a_person() {
        let pacman = Supply::Packages(Manager::Pacman);
        let plan = Plan::with(&["mmdebstrap"], pacman, WayToRoot::Direct).unwrap();
        assert!(plan.commands.is_empty());
        assert_eq!(plan.by_hand.len(), 1);
    }

    #[test]
    fn nix_and_unknown_systems_are_told_what_to_do() {
        let error = |supply| Plan::with(&["lxc-start"], supply, WayToRoot::Direct).unwrap_err().to_string();
        assert!(error(Supply::Nix).ends_with("help: nix develop"), "{}", error(Supply::Nix));
        assert!(error(Supply::Unknown).contains("install lxc-start with the system's package manager"));
        let optional = |supply| {
            let plan = |items: &[&'static str]| Plan::with(items, supply, WayToRoot::Direct);
            install_with(&lacking(&["chromium"]), Scope::Everything, plan, |plan| plan.carry_out(&|_| ()))
        };
        assert_eq!(optional(Supply::Nix).unwrap(), ["chromium"]);
        assert_eq!(optional(Supply::Unknown).unwrap(), ["chromium"]);
    }

    #[test]
    fn a_lock_is_seen_from_outside_while_it_is_held() {
        // On tmpfs, where the kernel's list of locks and stat name the same device.
        let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        assert!(!is_locked(file.path()));
        file.as_file().lock().unwrap();
        assert!(is_locked(file.path()));
        file.as_file().unlock().unwrap();
        assert!(!is_locked(file.path()));
        assert!(!is_locked(Path::new("/nonexistent")));
    }

    #[test]
    fn work_that_goes_on_is_announced_until_it_ends() {
        let (sender, receiver) = channel();
        let announce = move |news: News<'_>| {
            let News::GoesOn(line) = news else { panic!("{news:?}") };
            let _ = sender.send(line.to_owned()); // nobody listens any more once two were heard
        };
        let two = with_pulse(Duration::from_millis(1), "apt-get", &announce, || {
            [(); 2].map(|()| receiver.recv_timeout(Duration::from_secs(60)).unwrap())
        });
        assert_eq!(two, ["`apt-get` runs, 0 s"; 2]);
    }

    #[test]
    fn only_the_last_command_must_succeed() {
        let plan = |commands: &[&str]| Plan {
            commands: commands.iter().map(|program| vec![(*program).to_owned()]).collect(),
            by_hand: Vec::new(),
            way_to_root: WayToRoot::Direct,
        };
        plan(&["false", "true"]).carry_out(&|_| ()).unwrap();
        let error = plan(&["true", "false"]).carry_out(&|_| ()).unwrap_err().to_string();
        assert!(error.contains("`false` ended with status 1"), "{error}");
    }
}
