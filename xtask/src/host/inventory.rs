//! Inventory of what labs and builds leave visible on the host: one taken before and one taken after must be equal.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use walkdir::WalkDir;

use crate::host::cgroup::hierarchies;
use crate::host::container::lxc::{LOG_PATH, LXC_PATH};
use crate::host::disk::marked;
use crate::host::exec::process::{Stat, words};
use crate::host::exec::shell::Command;
use crate::host::undo::{GROUP_PREFIX, RUN_PATH};

/// Maximum number of characters of a command line in a report.
const COMMAND_CHARS_MAX: usize = 160;

/// List of everything on the host that a lab or a build could leave behind, with one line for each entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// Description of each entry in one line, with the slot that it belongs to.
    lines: BTreeMap<String, Option<String>>,
}

/// Process, mount or other entry that exists on the host now and did not before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Description of the entry, in one line.
    pub line: String,
    /// Slot whose name the entry bears, or whose process it descends from.
    pub slot: Option<String>,
}

/// Part of the host that is listed.
#[derive(Debug, Clone, Copy)]
enum Part<'a> {
    Everything,
    /// Everything that bears the name of this slot.
    Slot(&'a str),
}

impl Inventory {
    /// Lists processes (those of the engine and those in id ranges, cgroups or mount namespaces of containers), network namespaces, links,
    /// nft tables, mounts, loop devices, cgroup folders, the lxcpath, and the engine's own folders with their locks, ledgers and unfinished
    /// layers. Ordinary processes of the host come and go, and are left out.
    pub fn take(state_dir: &Path) -> anyhow::Result<Self> {
        let mut lines = BTreeMap::new();
        let mut add = |kind: &str, what: &str, slot: Option<String>| {
            lines.insert(format!("{kind} {what}"), slot);
        };
        look(Part::Everything, state_dir, &mut add);
        for (kind, arguments) in [("link", ["-o", "link"]), ("named network namespace", ["netns", "list"])] {
            for line in Command::new("ip").args(arguments).run()?.text().lines() {
                let name = line
                    .split(' ')
                    .find(|word| word.ends_with(':') && word.len() > 2 && !word.starts_with(char::is_numeric));
                add(kind, name.unwrap_or(line), None);
            }
        }
        for line in Command::new("nft").args(["list", "tables"]).run()?.text().lines() {
            add("nft", line, None);
        }
        Ok(Self { lines })
    }

    /// Lists what bears the name of one slot: its processes by cgroup or command line and their network namespaces, mounts, loop devices,
    /// cgroup folders, containers' folders, its own folders. Links, tables of filters, named network namespaces and unfinished layers bear
    /// no slot's name: only [`Self::take`] lists them.
    #[must_use]
    pub fn of_slot(state_dir: &Path, slot: &str) -> Self {
        let mut lines = BTreeMap::new();
        look(Part::Slot(slot), state_dir, &mut |kind: &str, what: &str, slot: Option<String>| {
            lines.insert(format!("{kind} {what}"), slot);
        });
        Self { lines }
    }

    /// Returns what exists now and did not before; what has disappeared is no leftover.
    #[must_use]
    pub fn leftovers_since(&self, before: &Self) -> Vec<String> {
        self.since(before).into_iter().map(|leftover| leftover.line).collect()
    }

    /// Like [`Self::leftovers_since`], each with its slot.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<Leftover> {
        let new = self.lines.iter().filter(|(line, _)| !before.lines.contains_key(*line));
        new.map(|(line, slot)| Leftover { line: line.clone(), slot: slot.clone() }).collect()
    }
}

/// Adds all entries that are found by reading files and folders, without running a program.
fn look(part: Part<'_>, state_dir: &Path, add: &mut impl FnMut(&str, &str, Option<String>)) {
    processes(part, add);
    for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
        let mut fields = line.split(' ').skip(3);
        let (root, at) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        if part.has(root) || part.has(at) {
            add("mount", &format!("{root} at {at}"), slot_in(root).or_else(|| slot_in(at)));
        }
    }
    for name in names(Path::new("/sys/block")) {
        if let Ok(file) = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"))
            && part.has(&file)
        {
            add("loop device", &format!("{name} {}", file.trim()), slot_in(&file));
        }
    }
    for top in hierarchies() {
        for name in names(&top) {
            if part.has(&name) && (name.starts_with("mancer-e2e") || name.starts_with("lxc")) {
                add("cgroup", &top.join(&name).display().to_string(), slot_in(&name));
            }
        }
    }
    for name in names(Path::new(LXC_PATH)) {
        let folder = Path::new(LXC_PATH).join(name);
        let config = fs::read_to_string(folder.join("config")).unwrap_or_default();
        if part.has(&config) {
            let slot = slot_in(&config);
            add("file", &folder.display().to_string(), slot.clone());
            names(&folder).iter().for_each(|name| add("file", &folder.join(name).display().to_string(), slot.clone()));
        }
    }
    // One that is being made or removed has no configuration.
    let homes = [Path::new(LXC_PATH).to_owned(), Path::new(LOG_PATH).to_owned(), state_dir.join("streams")];
    for found in homes.iter().flat_map(|home| marked::found(home)).filter(|found| part.is_slot(&found.slot)) {
        let slot = Some(found.slot.clone());
        if found.is_aside {
            add("unfinished", &found.folder.display().to_string(), slot);
        } else if !found.folder.starts_with(LOG_PATH) {
            add("file", &found.folder.display().to_string(), slot);
        }
    }
    for entry in WalkDir::new(RUN_PATH).min_depth(1).max_depth(2).into_iter().filter_map(Result::ok) {
        let path = entry.path().display().to_string();
        if part.has(&path) {
            add("file", &path, slot_in(&path));
        }
    }
    for name in names(&state_dir.join("streams")).into_iter().filter(|name| part.is_slot(name)) {
        add("unfinished", &format!("streams/{name}"), Some(name.clone()));
    }
    if matches!(part, Part::Everything) {
        for name in names(&state_dir.join("layers")).into_iter().filter(|name| name.starts_with('.')) {
            // A build has the slot of the first digits of its layer's hash.
            let hash = name.strip_prefix(".building-").and_then(|hash| hash.get(..12));
            add("unfinished", &format!("layers/{name}"), hash.map(|hash| format!("build-{hash}")));
        }
    }
}

impl Part<'_> {
    fn is_slot(self, name: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Slot(slot) => slot == name,
        }
    }

    /// Tells whether a text names the slot's cgroup or its folder, as a whole word; true for any text where the part is everything.
    fn has(self, text: &str) -> bool {
        let Self::Slot(slot) = self else { return true };
        [format!("{GROUP_PREFIX}{slot}"), format!("{RUN_PATH}/{slot}")].iter().any(|name| {
            let ends = text.match_indices(name.as_str()).map(|(at, _)| &text[at + name.len()..]);
            ends.into_iter().any(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-'))
        })
    }

    /// Tells whether a process belongs to this part: to the slot, or where the part is everything to the engine, which `of_engine` tells.
    fn has_process(self, group: &str, command: &str, of_engine: bool) -> bool {
        match self {
            Self::Everything => of_engine,
            Self::Slot(slot) => {
                self.has(group) || self.has(command) || format!("{command} ").contains(&format!("--slot {slot} "))
            }
        }
    }
}

/// Returns the slot that a path or a cgroup's name belongs to.
fn slot_in(text: &str) -> Option<String> {
    let run = format!("{RUN_PATH}/");
    let ends = [GROUP_PREFIX, &run].into_iter().filter_map(|prefix| Some(text.split_once(prefix)?.1));
    let names =
        ends.map(|rest| rest.split(|next: char| !(next.is_ascii_alphanumeric() || "-_.".contains(next))).next());
    names.flatten().find(|name| !name.is_empty()).map(str::to_owned)
}

/// Returns the slot that a process belongs to, by the cgroup or the command line of the process or of its ancestors.
fn slot_of_process(pid: i32) -> Option<String> {
    let group = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let of = |pid: i32| {
        slot_in(&group(pid)).or_else(|| {
            let words = words(pid, "cmdline");
            let mut words = words.split(|byte| *byte == 0).skip_while(|word| *word != b"--slot").skip(1);
            words.next().map(|slot| String::from_utf8_lossy(slot).into_owned())
        })
    };
    let above = std::iter::successors(Some(pid), |pid| Stat::of(*pid).map(|stat| stat.parent));
    above.take_while(|pid| *pid > 1).find_map(of)
}

fn processes(part: Part<'_>, add: &mut impl FnMut(&str, &str, Option<String>)) {
    let own = |pid: &str, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let (mounts, network) = (own("self", "mnt"), own("self", "net"));
    for name in names(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        let Ok(metadata) = fs::metadata(format!("/proc/{name}")) else { continue };
        let state = match name.parse().ok().and_then(Stat::of) {
            Some(stat) if !matches!(stat.state, 'Z' | 'X') => stat.state,
            _ => continue, // dead: whoever inherited it reaps it
        };
        let command = name.parse().map(|pid| words(pid, "cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let group = fs::read_to_string(format!("/proc/{name}/cgroup")).unwrap_or_default();
        let other_network = own(&name, "net").is_some_and(|theirs| Some(theirs) != network);
        let other_mounts = own(&name, "mnt").is_some_and(|theirs| Some(theirs) != mounts);
        let of_engine = group.contains("mancer-e2e")
            || group.contains("lxc")
            || command.contains("guard --slot")
            || command.starts_with("lxc")
            || metadata.uid() >= 100_000 && !command.is_empty()
            || other_network
            || other_mounts && command.contains("xtask");
        if !part.has_process(&group, &command, of_engine) {
            continue;
        }
        let short = || fs::read_to_string(format!("/proc/{name}/comm")).unwrap_or_default();
        // One that is about to end has no command line any more.
        let command = if command.is_empty() { format!("{} in state {state}", short().trim()) } else { command };
        let slot = name.parse().ok().and_then(slot_of_process);
        add("process", &format!("{name} {}", one_line(&command)), slot.clone());
        if other_network && let Some(namespace) = own(&name, "net") {
            add("network namespace", &namespace.display().to_string(), slot);
        }
    }
}

/// Shortens a command line to one line of a report.
fn one_line(command: &str) -> String {
    let words: Vec<&str> =
        command.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(COMMAND_CHARS_MAX) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_names_its_slot() {
        let check = |text: &str, slot: Option<&str>| assert_eq!(slot_in(text).as_deref(), slot, "{text}");
        check("0::/mancer-e2e-75/app/lxc.payload.x\n", Some("75"));
        check("12:pids:/\n0::/mancer-e2e-build-0123456789ab\n", Some("build-0123456789ab"));
        check("/run/mancer-e2e/9/images/0.img", Some("9"));
        check("lxc.cgroup.dir.container = mancer-e2e-3/a\n", Some("3"));
        check("/var/lib/mancer-e2e/layers/x", None);
        check("/run/mancer-e2e/", None);
        check("0::/user.slice", None);
    }

    #[test]
    fn a_command_line_is_one_line() {
        assert_eq!(one_line("sh -c first\n  second\tthird "), "sh -c first second third");
        let long = one_line(&"word ".repeat(100));
        assert!(long.ends_with(" ...") && long.chars().count() == COMMAND_CHARS_MAX + 4, "{long}");
    }

    #[test]
    fn what_is_new_is_told_with_its_slot() {
        let inventory = |lines: &[(&str, Option<&str>)]| Inventory {
            lines: lines.iter().map(|(line, slot)| ((*line).to_owned(), slot.map(str::to_owned))).collect(),
        };
        let before = inventory(&[("file a", None), ("file b", Some("3"))]);
        let after = inventory(&[("file b", None), ("file c", Some("4"))]);
        assert_eq!(after.since(&before), [Leftover { line: "file c".into(), slot: Some("4".into()) }]);
        assert_eq!(after.leftovers_since(&before), ["file c"]);
    }

    #[test]
    fn a_slot_is_told_from_those_whose_names_begin_alike() {
        let part = Part::Slot("9");
        for text in ["mancer-e2e-9", "0::/mancer-e2e-9/app/lxc.payload.x\n", "/run/mancer-e2e/9/images/0.img"] {
            assert!(part.has(text), "{text}");
        }
        for text in ["mancer-e2e-90/app", "/run/mancer-e2e/90", "/run/mancer-e2e/build-9", "mancer-e2e-9-b", ""] {
            assert!(!part.has(text), "{text}");
        }
        assert!(part.has_process("0::/", "xtask guard --slot 9", false));
        assert!(!part.has_process("0::/", "xtask guard --slot 90", true));
    }
}
