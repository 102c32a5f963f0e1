//! Parts of the kernel that faults need. Each is tried once a boot; what is missing is named in one line.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::host::disk::marked::boot_id;
use crate::host::exec::shell::which;

/// File with the results of this boot, on tmpfs.
const CACHE: &str = "/run/mancer-e2e-kernel.json";

const FORMAT_VERSION: u32 = 1;

/// Programs by which parts are tried.
const TOOLS: [&str; 4] = ["nft", "tc", "iptables", "iptables-legacy"];

/// Prefixes of the names of kernel modules that may provide such a part.
const MODULES: [&str; 10] = ["nf", "nft", "xt_", "x_tables", "ip_", "ip6", "ipt", "sch_", "br_netfilter", "bridge"];

/// Result of a trial of a part of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// The kernel has the part.
    Works,
    /// The kernel lacks the part of this name.
    Lacks(String),
    /// The trial failed for this reason, which need not be a lack of the part: the next trial may not fail.
    Fails(String),
}

/// Reason, in one line, why this host cannot do something; `None` where it can. `trial` runs where no result of this boot is known for
/// `what`, which names the tool by its path. A lack is tried again once a module of packet filters, a tool or the engine has changed.
#[must_use]
pub fn problem(what: &str, trial: impl FnOnce() -> Trial) -> Option<String> {
    problem_in(Path::new(CACHE), &boot_id(), fingerprint, what, trial)
}

/// Returns the last meaningful line of an error, for a message of one line.
#[must_use]
pub fn one_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // The first names the command, the next one what it said.
    let said = lines.get(1).copied().unwrap_or_else(|| lines.first().copied().unwrap_or_default());
    said.trim_start_matches("stderr: ").to_owned()
}

/// Results of the trials of one boot.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    format_version: u32,
    boot_id: String,
    parts: BTreeMap<String, Found>,
}

/// Result of a trial that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    /// The part works, which holds until the next boot.
    Works,
    /// The part is missing, which holds as long as the fingerprint of the host is this one.
    Lacks { part: String, fingerprint: u64 },
}

fn problem_in(
    cache: &Path,
    boot_id: &str,
    fingerprint: impl Fn() -> u64,
    what: &str,
    trial: impl FnOnce() -> Trial,
) -> Option<String> {
    match read(cache, boot_id).parts.get(what) {
        Some(Found::Works) => return None,
        Some(Found::Lacks { part, fingerprint: then }) if *then == fingerprint() => return Some(lacks(part)),
        _ => {}
    }
    let (result, problem) = match trial() {
        Trial::Works => (Found::Works, None),
        // Taken now: the trial itself may have loaded modules.
        Trial::Lacks(part) => {
            let problem = lacks(&part);
            (Found::Lacks { part, fingerprint: fingerprint() }, Some(problem))
        }
        Trial::Fails(problem) => return Some(problem),
    };
    let mut known = read(cache, boot_id); // anew: another process may have added to it meanwhile
    known.parts.insert(what.to_owned(), result);
    write(cache, &known);
    problem
}

fn lacks(part: &str) -> String {
    format!("the kernel lacks {part}")
}

/// Reads the kept results; those of another boot or format count as none.
fn read(cache: &Path, boot_id: &str) -> Known {
    let known: Option<Known> = std::fs::read_to_string(cache).ok().and_then(|text| serde_json::from_str(&text).ok());
    let fresh = || Known { format_version: FORMAT_VERSION, boot_id: boot_id.to_owned(), parts: BTreeMap::new() };
    known.filter(|known| known.format_version == FORMAT_VERSION && known.boot_id == boot_id).unwrap_or_else(fresh)
}

/// Writes all results by one rename. Where they cannot be written, parts are tried again.
fn write(cache: &Path, known: &Known) {
    let new = cache.with_extension(format!("json.{}", std::process::id()));
    let Ok(text) = serde_json::to_string(known) else { return };
    if std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, cache)).is_err() {
        let _ = std::fs::remove_file(&new);
    }
}

/// Returns a hash that changes with the loaded modules, the tools and the engine itself.
fn fingerprint() -> u64 {
    let mut hasher = DefaultHasher::new();
    let modules = std::fs::read_to_string("/proc/modules").unwrap_or_default();
    let names = modules.lines().filter_map(|line| line.split(' ').next());
    let mut names: Vec<&str> = names.filter(|name| MODULES.iter().any(|begin| name.starts_with(begin))).collect();
    names.sort_unstable();
    names.hash(&mut hasher);
    let tools = TOOLS.iter().filter_map(|tool| which(tool)).chain(std::env::current_exe().ok());
    for path in tools {
        let seen = std::fs::metadata(&path).map(|file| (file.ino(), file.size(), file.mtime(), file.mtime_nsec()));
        (path, seen.ok()).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Host with a cache of results, and the number of trials that were made.
    struct Host {
        dir: tempfile::TempDir,
        trials: u32,
    }

    impl Host {
        fn ask(&mut self, boot_id: &str, fingerprint: u64, what: &str, result: Trial) -> Option<String> {
            let trials = &mut self.trials;
            let trial = || {
                *trials += 1;
                result
            };
            problem_in(&self.dir.path().join("kernel.json"), boot_id, || fingerprint, what, trial)
        }
    }

    #[test]
    fn each_part_is_tried_once_a_boot() {
        let mut host = Host { dir: tempfile::tempdir().unwrap(), trials: 0 };
        let lack = || Trial::Lacks("sch_tbf".into());
        for _ in 0..3 {
            assert_eq!(host.ask("boot 1", 1, "a", Trial::Works), None);
            assert_eq!(host.ask("boot 1", 1, "b", lack()).as_deref(), Some("the kernel lacks sch_tbf"));
        }
        assert_eq!(host.trials, 2);
        assert_eq!(host.ask("boot 1", 2, "a", lack()), None, "what works is not lost by loading a module");
        assert_eq!(host.ask("boot 1", 2, "b", Trial::Works), None, "a module was loaded");
        assert_eq!(host.ask("boot 2", 2, "a", lack()).as_deref(), Some("the kernel lacks sch_tbf"));
        assert_eq!(host.trials, 4);
        assert_eq!(host.dir.path().read_dir().unwrap().count(), 1, "one file, no remains of writing it");
    }

    #[test]
    fn a_failure_that_names_no_part_is_tried_again_and_a_damaged_cache_too() {
        let mut host = Host { dir: tempfile::tempdir().unwrap(), trials: 0 };
        for _ in 0..2 {
            let problem = host.ask("boot", 1, "a", Trial::Fails("nft was killed".into()));
            assert_eq!(problem.as_deref(), Some("nft was killed"));
        }
        assert_eq!(host.ask("boot", 1, "a", Trial::Works), None);
        std::fs::write(host.dir.path().join("kernel.json"), "{").unwrap();
        assert_eq!(host.ask("boot", 1, "a", Trial::Works), None);
        assert_eq!(host.trials, 4);
    }

    #[test]
    fn an_error_is_said_in_one_line() {
        let error = anyhow::anyhow!("`nft -f -` ended with status 1\n  stderr: line 1: no\n    line 2");
        assert_eq!(one_line(&error), "line 1: no");
        assert_eq!(one_line(&anyhow::anyhow!("opening x: no")), "opening x: no");
    }
}
