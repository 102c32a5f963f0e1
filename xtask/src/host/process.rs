//! Processes of the host, found through /proc.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cgroup::Tree;

/// Kills every process of a cgroup tree that carries this variable in its environment, with all that descend from
/// one, until none is left.
///
/// # Errors
/// With the numbers of those that are still there after the deadline.
pub fn kill_marked(tree: &Tree, mark: &str, deadline: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let found = marked(&tree.pids(), mark);
        if found.is_empty() {
            return Ok(());
        }
        for pid in &found {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL); // gone already, or seen again in the next round
        }
        if started.elapsed() > deadline {
            anyhow::bail!("processes {found:?} are still there {deadline:?} after they were killed");
        }
        std::thread::sleep(Duration::from_millis(2)); // until the kernel has taken them away
    }
}

fn marked(pids: &[i32], mark: &str) -> Vec<i32> {
    let mut parents: HashMap<i32, i32> = HashMap::new();
    let mut found: HashSet<i32> = HashSet::new();
    for pid in pids {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()) {
            found.insert(*pid);
        }
        if let Some((parent, state)) = parent_and_state(*pid) {
            parents.insert(*pid, parent);
            if state == 'Z' {
                found.remove(pid);
                parents.remove(pid);
            }
        }
    }
    loop {
        let more: Vec<i32> = parents
            .iter()
            .filter(|(pid, parent)| !found.contains(pid) && found.contains(parent))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    found.into_iter().collect()
}

/// A process's parent, and its state as /proc has it: `Z` for one that is dead and not yet reaped.
pub(super) fn parent_and_state(pid: i32) -> Option<(i32, char)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}
