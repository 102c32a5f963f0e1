//! What of labs and builds can be seen on the host: taken before and after, the two must be equal.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use walkdir::WalkDir;

use super::cgroup::hierarchies;
use super::lxc::LXC_PATH;
use super::process::Stat;
use super::shell::Command;

/// Everything on the host that a lab or a build could leave behind, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    lines: BTreeSet<String>,
}

impl Inventory {
    /// Looks at processes (those of the engine and those in id ranges, cgroups or mount namespaces of containers),
    /// network namespaces, links, nft tables, mounts, loop devices, cgroup folders, the lxcpath, and the engine's own
    /// folders with their locks, ledgers and unfinished layers. Ordinary processes of the host come and go, and are
    /// left out.
    ///
    /// # Errors
    /// When `ip` or `nft` cannot be asked.
    pub fn take(state_dir: &Path) -> anyhow::Result<Self> {
        let mut lines = BTreeSet::new();
        let mut add = |kind: &str, what: &str| {
            lines.insert(format!("{kind} {what}"));
        };
        processes(&mut add);
        for (kind, arguments) in [("link", ["-o", "link"]), ("named network namespace", ["netns", "list"])] {
            for line in Command::new("ip").args(arguments).run()?.text().lines() {
                let name = line
                    .split(' ')
                    .find(|word| word.ends_with(':') && word.len() > 2 && !word.starts_with(char::is_numeric));
                add(kind, name.unwrap_or(line));
            }
        }
        for line in Command::new("nft").args(["list", "tables"]).run()?.text().lines() {
            add("nft", line);
        }
        for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
            let mut fields = line.split(' ').skip(3);
            add("mount", &format!("{} at {}", fields.next().unwrap_or(""), fields.next().unwrap_or("")));
        }
        for name in names(Path::new("/sys/block")) {
            if let Ok(file) = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")) {
                add("loop device", &format!("{name} {}", file.trim()));
            }
        }
        for top in hierarchies() {
            for name in names(&top) {
                if name.starts_with("mancer-e2e") || name.starts_with("lxc") {
                    add("cgroup", &top.join(name).display().to_string());
                }
            }
        }
        for folder in [Path::new(LXC_PATH), Path::new("/run/mancer-e2e")] {
            for entry in WalkDir::new(folder).min_depth(1).max_depth(2).into_iter().filter_map(Result::ok) {
                add("file", &entry.path().display().to_string());
            }
        }
        for folder in ["layers", "streams"] {
            for name in
                names(&state_dir.join(folder)).into_iter().filter(|name| name.starts_with('.') || folder != "layers")
            {
                add("unfinished", &format!("{folder}/{name}"));
            }
        }
        Ok(Self { lines })
    }

    /// What is there now and was not before; what is gone is no leftover.
    #[must_use]
    pub fn leftovers_since(&self, before: &Self) -> Vec<String> {
        self.lines.difference(&before.lines).cloned().collect()
    }
}

fn processes(add: &mut impl FnMut(&str, &str)) {
    let own = |pid: &str, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let (mounts, network) = (own("self", "mnt"), own("self", "net"));
    for name in names(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        let Ok(metadata) = fs::metadata(format!("/proc/{name}")) else { continue };
        let state = match name.parse().ok().and_then(Stat::of) {
            Some(stat) if !matches!(stat.state, 'Z' | 'X') => stat.state,
            _ => continue, // dead: whoever inherited it reaps it
        };
        let command = fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let group = fs::read_to_string(format!("/proc/{name}/cgroup")).unwrap_or_default();
        let other_network = own(&name, "net").is_some_and(|theirs| Some(theirs) != network);
        let other_mounts = own(&name, "mnt").is_some_and(|theirs| Some(theirs) != mounts);
        let ours = group.contains("mancer-e2e")
            || group.contains("lxc")
            || command.contains("guard --slot")
            || command.starts_with("lxc")
            || metadata.uid() >= 100_000 && !command.is_empty()
            || other_network
            || other_mounts && command.contains("xtask");
        if ours {
            let short = || fs::read_to_string(format!("/proc/{name}/comm")).unwrap_or_default();
            // One that is about to end has no command line any more.
            let command = if command.is_empty() { format!("{} in state {state}", short().trim()) } else { command };
            add("process", &format!("{name} {command}"));
        }
        if other_network && let Some(namespace) = own(&name, "net") {
            add("network namespace", &namespace.display().to_string());
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
