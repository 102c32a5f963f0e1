//! Limits and usage of an existing cgroup, by one set of names for versions 1 and 2.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::Version;
use super::tree::ENTRY;
use super::version::controller;
use crate::program;

/// Limit of a cgroup that can be read and changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// Maximum memory in bytes.
    Memory,
    /// Maximum swap in bytes; in version 1 the limit is on memory and swap together.
    Swap,
    /// Processor time that may be used in each period; see [`Group::cpu_share`].
    CpuTime,
    /// Processors that may be used, such as `0-1,3`.
    Cpus,
    /// Maximum number of processes and threads.
    Processes,
}

/// Counter or present usage of a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// Memory in use, in bytes.
    MemoryBytes,
    /// Bytes of recently used page cache, part of `MemoryBytes`: the kernel can reclaim it, as the files on disk have the same content.
    FileBytesActive,
    /// Bytes of page cache that was not used lately, part of `MemoryBytes`, which the kernel can reclaim as well.
    FileBytesInactive,
    /// Number of times that the cgroup's memory was about to exceed its limit.
    MemoryRefusals,
    /// Number of processes that the kernel has killed for want of memory.
    OomKills,
    /// Processor time used: nanoseconds in version 1, microseconds in version 2; see [`Group::cpu_time`].
    CpuTime,
    /// Number of periods of the limit of processor time in which the cgroup had something to run.
    CpuPeriods,
    /// Number of periods in which the limit of processor time was used up.
    CpuThrottled,
    /// Present number of processes and threads.
    Processes,
    /// Number of times that a new process was refused, by the cgroup's own limit or by one above it.
    ProcessRefusals,
}

/// Controller, file and key of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    controller: &'static str,
    file: &'static str,
    /// Word before the value, in a file of several lines.
    key: Option<&'static str>,
}

const fn place(controller: &'static str, file: &'static str) -> Place {
    Place { controller, file, key: None }
}

const fn line(controller: &'static str, file: &'static str, key: &'static str) -> Place {
    Place { controller, file, key: Some(key) }
}

impl Setting {
    /// Controller that this setting needs and the kernel lacks; `None` where the kernel has it.
    #[must_use]
    pub fn missing_controller(self) -> Option<&'static str> {
        let name = self.controller();
        controller(name).is_none().then_some(name)
    }

    fn controller(self) -> &'static str {
        self.place(Version::V2).controller
    }

    fn place(self, version: Version) -> Place {
        match (self, version) {
            (Self::Memory, Version::V1) => place("memory", "memory.limit_in_bytes"),
            (Self::Memory, Version::V2) => place("memory", "memory.max"),
            (Self::Swap, Version::V1) => place("memory", "memory.memsw.limit_in_bytes"),
            (Self::Swap, Version::V2) => place("memory", "memory.swap.max"),
            (Self::CpuTime, Version::V1) => place("cpu", "cpu.cfs_quota_us"),
            (Self::CpuTime, Version::V2) => place("cpu", "cpu.max"),
            (Self::Cpus, _) => place("cpuset", "cpuset.cpus"),
            (Self::Processes, _) => place("pids", "pids.max"),
        }
    }
}

impl Gauge {
    fn controller(self, version: Version) -> &'static str {
        self.place(version).controller
    }

    fn place(self, version: Version) -> Place {
        match (self, version) {
            (Self::MemoryBytes, Version::V1) => place("memory", "memory.usage_in_bytes"),
            (Self::MemoryBytes, Version::V2) => place("memory", "memory.current"),
            (Self::FileBytesActive, Version::V1) => line("memory", "memory.stat", "total_active_file"),
            (Self::FileBytesActive, Version::V2) => line("memory", "memory.stat", "active_file"),
            (Self::FileBytesInactive, Version::V1) => line("memory", "memory.stat", "total_inactive_file"),
            (Self::FileBytesInactive, Version::V2) => line("memory", "memory.stat", "inactive_file"),
            (Self::MemoryRefusals, Version::V1) => place("memory", "memory.failcnt"),
            (Self::MemoryRefusals, Version::V2) => line("memory", "memory.events", "max"),
            (Self::OomKills, Version::V1) => line("memory", "memory.oom_control", "oom_kill"),
            (Self::OomKills, Version::V2) => line("memory", "memory.events", "oom_kill"),
            (Self::CpuTime, Version::V1) => place("cpuacct", "cpuacct.usage"),
            (Self::CpuTime, Version::V2) => line("cpu", "cpu.stat", "usage_usec"),
            (Self::CpuPeriods, _) => line("cpu", "cpu.stat", "nr_periods"),
            (Self::CpuThrottled, _) => line("cpu", "cpu.stat", "nr_throttled"),
            (Self::Processes, _) => place("pids", "pids.current"),
            (Self::ProcessRefusals, _) => line("pids", "pids.events", "max"),
        }
    }

    /// Tells whether each cgroup counts only its own events, without those of the cgroups below: kills in version 1, and refused processes
    /// (in version 2 until Linux 6.10).
    fn is_counted_apart(self, version: Version) -> bool {
        self == Self::ProcessRefusals || self == Self::OomKills && version == Version::V1
    }
}

/// A cgroup, by its name relative to the top of each hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    name: String,
}

impl Group {
    /// Names a cgroup, which need not exist.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the child of this cgroup that a process is in, or that is above the process's cgroup.
    #[must_use]
    pub fn child_with(&self, pid: i32) -> Option<Self> {
        let paths = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        child_in(&paths, &self.name).map(|child| Self { name: format!("{}/{child}", self.name) })
    }

    /// Returns the present value of a setting, as the kernel writes it. Fails where the kernel lacks the setting's controller.
    pub fn read(&self, setting: Setting) -> anyhow::Result<String> {
        let (path, _) = self.file(setting.controller(), |version| setting.place(version))?;
        read(&path)
    }

    /// Returns the present limit of a setting; `None` where there is none.
    pub fn bound(&self, setting: Setting) -> anyhow::Result<Option<u64>> {
        Ok(parse_bound(&self.read(setting)?))
    }

    /// Changes a setting with one write, and reads it back.
    ///
    /// # Errors
    /// The kernel's refusal, with [`Errno`] in the chain; or the value that was read back, where it is another one.
    pub fn write(&self, setting: Setting, value: &str) -> anyhow::Result<()> {
        let (path, _) = self.file(setting.controller(), |version| setting.place(version))?;
        set(&path, setting, value)
    }

    /// Restores a setting and reads it back; does nothing for a cgroup that is gone, or that never had the setting.
    pub fn put_back(&self, setting: Setting, value: &str) -> anyhow::Result<()> {
        let Ok((path, _)) = self.file(setting.controller(), |version| setting.place(version)) else { return Ok(()) };
        match set(&path, setting, value) {
            Err(error) if is_gone(&error) => Ok(()),
            other => other,
        }
    }

    pub fn gauge(&self, gauge: Gauge) -> anyhow::Result<u64> {
        let of = |version: Version| gauge.place(version);
        let (path, version) =
            self.file(gauge.controller(Version::V1), of).or_else(|_| self.file(gauge.controller(Version::V2), of))?;
        let value = |path: &Path| parse_gauge(&read(path)?, of(version).key).with_context(|| odd(path));
        let own = value(&path)?;
        if !gauge.is_counted_apart(version) {
            return Ok(own);
        }
        let folder = path.parent().unwrap_or(&path).to_owned();
        let below = WalkDir::new(folder).min_depth(1).into_iter().filter_map(Result::ok);
        let below = below.filter(|entry| entry.file_type().is_dir()).map(|entry| entry.path().join(of(version).file));
        Ok(own + below.filter_map(|path| value(&path).ok()).sum::<u64>())
    }

    /// Returns the processor time that the cgroup has used.
    pub fn cpu_time(&self) -> anyhow::Result<std::time::Duration> {
        let used = self.gauge(Gauge::CpuTime)?;
        let nanoseconds = matches!(controller("cpuacct"), Some((_, Version::V1)));
        let time = if nanoseconds { std::time::Duration::from_nanos } else { std::time::Duration::from_micros };
        Ok(time(used))
    }

    /// Returns the cgroup's limit of processor time.
    pub fn cpu_share(&self) -> anyhow::Result<CpuShare> {
        let text = self.read(Setting::CpuTime)?;
        let (path, version) = self.file("cpu", |version| Setting::CpuTime.place(version))?;
        match version {
            Version::V2 => parse_share(&text).with_context(|| odd(&path)),
            Version::V1 => {
                let period = read(&path.with_file_name("cpu.cfs_period_us"))?;
                parse_share(&format!("{} {period}", text.trim())).with_context(|| odd(&path))
            }
        }
    }

    /// Returns the text for [`Setting::CpuTime`] that allows this percentage of one processor; the period stays as it is.
    pub fn cpu_share_text(&self, percent: u32) -> anyhow::Result<String> {
        let period_us = self.cpu_share()?.period_us;
        let (_, version) = self.file("cpu", |version| Setting::CpuTime.place(version))?;
        Ok(share_text(version, period_us * u64::from(percent) / 100, period_us))
    }

    /// Returns the text for [`Setting::Swap`] that allows no swap to a cgroup with this memory limit. Fails where the kernel counts no
    /// swap.
    pub fn no_swap_text(&self, memory_bytes: u64) -> anyhow::Result<String> {
        let (_, version) = self.file("memory", |version| Setting::Swap.place(version))?;
        Ok(no_swap_text(version, memory_bytes))
    }

    /// Returns the memory in use, in bytes, that is not page cache, which the kernel could reclaim.
    pub fn held_bytes(&self) -> anyhow::Result<u64> {
        let of_files = self.gauge(Gauge::FileBytesActive)? + self.gauge(Gauge::FileBytesInactive)?;
        Ok(self.gauge(Gauge::MemoryBytes)?.saturating_sub(of_files))
    }

    /// Returns the file to which a process writes its PID to join the cgroup of the process `beside`: this one, or one below it.
    ///
    /// # Errors
    /// Also when the process `beside` is gone, or neither in this cgroup nor below it.
    pub fn entrance(&self, controller_name: &str, beside: i32) -> anyhow::Result<PathBuf> {
        let (top, version) = controller(controller_name).with_context(|| missing(controller_name))?;
        let paths = std::fs::read_to_string(format!("/proc/{beside}/cgroup"))
            .with_context(|| format!("looking for the cgroup of process {beside}"))?;
        let path = path_in(&paths, (version == Version::V1).then_some(controller_name));
        let path =
            path.with_context(|| format!("process {beside} is in no cgroup of the controller {controller_name}"))?;
        let inside = path == self.name || path.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with('/'));
        anyhow::ensure!(inside, "process {beside} is in the cgroup {path}, not in {}", self.name);
        Ok(top.join(path).join("cgroup.procs"))
    }

    fn file(&self, name: &str, of: impl Fn(Version) -> Place) -> anyhow::Result<(PathBuf, Version)> {
        let (top, version) = controller(name).with_context(|| missing(name))?;
        let path = top.join(&self.name).join(of(version).file);
        if path.exists() { Ok((path, version)) } else { Err(anyhow!("{} does not exist", path.display())) }
    }
}

/// Limit of processor time: a quota for each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuShare {
    /// Quota in one period, in microseconds of one processor; `None` where there is no limit.
    pub quota_us: Option<u64>,
    pub period_us: u64,
}

impl CpuShare {
    /// Returns the limit in percent of one processor; `None` where there is none.
    #[must_use]
    pub fn percent(&self) -> Option<f64> {
        self.quota_us.map(|quota| quota as f64 * 100.0 / self.period_us as f64)
    }
}

/// Parses a list of processors such as `0-1,3` into their numbers, in order; `None` where the text is no such list.
#[must_use]
pub fn parse_cpus(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > 65_535 {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

fn missing(controller: &str) -> String {
    format!("this host has no cgroup controller {controller}: `{} doctor` says more", program::name())
}

fn odd(path: &Path) -> String {
    format!("{} has an unexpected format", path.display())
}

pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

fn set(path: &Path, setting: Setting, value: &str) -> anyhow::Result<()> {
    match (write(path, value), above(path)) {
        // A kernel may let no group with processes name no processors: all that there are above it mean the same.
        (Err(error), Some(all)) if setting == Setting::Cpus && value.is_empty() && has(&error, &[Errno::ENOSPC]) => {
            return set(path, setting, &all);
        }
        (written, _) => written?,
    }
    let now = read(path)?;
    anyhow::ensure!(
        is_same(setting, value, &now),
        "the kernel did not keep a setting: {} is {now:?} after {value:?} was written to it",
        path.display()
    );
    Ok(())
}

/// Writes a value in one call: the kernel takes it as a whole. An empty value is written as an empty line, because no call is made for 0
/// bytes.
pub(super) fn write(path: &Path, value: &str) -> anyhow::Result<()> {
    let bytes = if value.is_empty() { "\n" } else { value };
    let context = || format!("writing {bytes:?} to {}", path.display());
    let mut file = File::options().write(true).open(path).with_context(context)?;
    let written = file.write(bytes.as_bytes()).with_context(context)?;
    anyhow::ensure!(written == bytes.len(), "{} took only {written} bytes of {bytes:?}", path.display());
    Ok(())
}

/// Returns the processors that the parent of a cgroup may use, by the path of a file in the cgroup's folder; `None` in version 1, and where
/// the parent has no list.
fn above(path: &Path) -> Option<String> {
    let text = read(&path.parent()?.parent()?.join("cpuset.cpus.effective")).ok()?;
    Some(text).filter(|cpus| parse_cpus(cpus).is_some_and(|cpus| !cpus.is_empty()))
}

/// Tells whether the kernel's text for a setting means the value that was written: the kernel writes lists of processors in its own way,
/// the lack of a limit as a number or a word, and bytes of memory as whole pages.
fn is_same(setting: Setting, written: &str, read: &str) -> bool {
    match setting {
        Setting::Memory | Setting::Swap => in_pages(parse_bound(written)) == in_pages(parse_bound(read)),
        Setting::Processes => parse_bound(written) == parse_bound(read),
        Setting::Cpus => parse_cpus(written).is_some_and(|cpus| Some(cpus) == parse_cpus(read)),
        Setting::CpuTime => {
            let (written, read) = (parse_quota(written), parse_quota(read));
            let is_same_period = written.1.is_none() || written.1 == read.1;
            written.0 == read.0 && is_same_period
        }
    }
}

fn in_pages(bytes: Option<u64>) -> Option<u64> {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0).unwrap_or(4096);
    bytes.map(|bytes| bytes / page)
}

pub(super) fn is_gone(error: &anyhow::Error) -> bool {
    has(error, &[Errno::ENOENT, Errno::ENODEV])
}

/// Tells whether one of these codes is in the chain of an error.
fn has(error: &anyhow::Error, codes: &[Errno]) -> bool {
    let code = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()?.raw_os_error());
    code.is_some_and(|code| codes.contains(&Errno::from_raw(code)))
}

/// Parses a limit; `None` for the lack of one, which is written as `max`, -1, or a number that no machine has.
fn parse_bound(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 62)
}

fn parse_gauge(text: &str, key: Option<&str>) -> Option<u64> {
    let Some(key) = key else { return text.trim().parse().ok() };
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(word, _)| *word == key).find_map(|(_, value)| value.trim().parse().ok())
}

/// Parses `QUOTA PERIOD` of version 2; a quota of `max` or -1 means no limit.
fn parse_share(text: &str) -> Option<CpuShare> {
    let (quota, period) = text.trim().split_once(' ')?;
    let period_us = period.trim().parse().ok().filter(|period| *period > 0)?;
    let quota_us = match quota {
        "max" | "-1" => None,
        number => Some(number.parse().ok()?),
    };
    Some(CpuShare { quota_us, period_us })
}

/// Parses a quota, and the period where it is written after the quota; the quota is `None` where there is no limit.
fn parse_quota(text: &str) -> (Option<u64>, Option<u64>) {
    let mut words = text.split_whitespace();
    (words.next().and_then(parse_bound), words.next().and_then(|period| period.parse().ok()))
}

fn share_text(version: Version, quota_us: u64, period_us: u64) -> String {
    match version {
        Version::V1 => quota_us.to_string(),
        Version::V2 => format!("{quota_us} {period_us}"),
    }
}

fn no_swap_text(version: Version, memory_bytes: u64) -> String {
    match version {
        Version::V1 => memory_bytes.to_string(),
        Version::V2 => "0".to_owned(),
    }
}

fn child_in(paths: &str, name: &str) -> Option<String> {
    let paths = paths.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let below = paths.filter_map(|path| path.trim_start_matches('/').strip_prefix(name)?.strip_prefix('/'));
    let mut children = below.filter_map(|rest| rest.split('/').next());
    children.find(|child| !child.is_empty() && *child != ENTRY).map(str::to_owned)
}

/// Returns the cgroup of a process, relative to the top of a hierarchy: that of a controller of version 1, or with `None` that of version
/// 2.
fn path_in(paths: &str, controller: Option<&str>) -> Option<String> {
    let has = |line: &&str| {
        let controllers = line.split(':').nth(1).unwrap_or_default();
        match controller {
            Some(name) => controllers.split(',').any(|listed| listed == name),
            None => line.starts_with("0::"),
        }
    };
    let path = paths.lines().find(has)?.splitn(3, ':').nth(2)?;
    Some(path.trim_start_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "8:pids:/mancer-e2e-1/app/lxc.payload.x/init.scope\n2:cpu,cpuacct:/mancer-e2e-1/app/lxc.payload.x\n\
                          0::/mancer-e2e-1/app/lxc.payload.x/init.scope\n";

    #[test]
    fn the_group_of_a_process_is_found_whatever_it_has_made_below() {
        assert_eq!(child_in(HYBRID, "mancer-e2e-1/app").as_deref(), Some("lxc.payload.x"));
        assert_eq!(child_in(HYBRID, "mancer-e2e-1/ap"), None);
        assert_eq!(child_in("0::/\n", "mancer-e2e-1/app"), None);
        assert_eq!(child_in("0::/mancer-e2e-1/app/entry\n", "mancer-e2e-1/app"), None, "LXC has not moved it yet");
        assert_eq!(path_in(HYBRID, Some("cpuacct")).as_deref(), Some("mancer-e2e-1/app/lxc.payload.x"));
        assert_eq!(path_in(HYBRID, None).as_deref(), Some("mancer-e2e-1/app/lxc.payload.x/init.scope"));
        assert_eq!(path_in(HYBRID, Some("memory")), None);
    }

    #[test]
    fn bounds_and_gauges_of_both_versions() {
        for text in ["max", "9223372036854771712", "-1"] {
            assert_eq!(parse_bound(text), None, "{text}");
        }
        assert_eq!(parse_bound("67108864\n"), Some(64 << 20));
        assert_eq!(parse_gauge("128\n", None), Some(128));
        assert_eq!(parse_gauge("low 0\nmax 3\noom 1\noom_kill 2\n", Some("oom_kill")), Some(2));
        assert_eq!(parse_gauge("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", Some("oom_kill")), Some(7));
        assert_eq!(parse_gauge("nr_periods 3\n", Some("nr_throttled")), None);
    }

    #[test]
    fn processor_time_in_both_versions() {
        let half = CpuShare { quota_us: Some(50_000), period_us: 100_000 };
        assert_eq!(parse_share("50000 100000\n"), Some(half));
        assert_eq!(half.percent(), Some(50.0));
        for text in ["max 100000", "-1 100000"] {
            assert_eq!(parse_share(text), Some(CpuShare { quota_us: None, period_us: 100_000 }), "{text}");
        }
        assert_eq!(parse_share("50000"), None);
        assert_eq!(share_text(Version::V1, 20_000, 100_000), "20000");
        assert_eq!(share_text(Version::V2, 20_000, 100_000), "20000 100000");
    }

    #[test]
    fn no_swap_in_both_versions() {
        assert_eq!(no_swap_text(Version::V1, 4096), "4096", "memory and swap are counted together");
        assert_eq!(no_swap_text(Version::V2, 4096), "0");
    }

    #[test]
    fn each_name_has_its_file_in_both_versions() {
        use Version::{V1, V2};
        assert_eq!(Setting::Memory.place(V1).file, "memory.limit_in_bytes");
        assert_eq!(Setting::Memory.place(V2).file, "memory.max");
        assert_eq!(Setting::CpuTime.place(V1).file, "cpu.cfs_quota_us");
        assert_eq!(Setting::CpuTime.place(V2).file, "cpu.max");
        assert_eq!(Gauge::CpuTime.place(V1), place("cpuacct", "cpuacct.usage"));
        assert_eq!(Gauge::CpuTime.place(V2), line("cpu", "cpu.stat", "usage_usec"));
        for setting in [Setting::Memory, Setting::Swap, Setting::CpuTime, Setting::Cpus, Setting::Processes] {
            assert_eq!(setting.place(V1).controller, setting.place(V2).controller, "{setting:?}");
        }
    }

    #[test]
    fn lists_of_processors() {
        assert_eq!(parse_cpus("0-1,3\n"), Some(vec![0, 1, 3]));
        assert_eq!(parse_cpus("2,0"), Some(vec![0, 2]));
        assert_eq!(parse_cpus(""), Some(vec![]));
        for text in ["a", "1-", "3-1", "-1", "0-99999"] {
            assert_eq!(parse_cpus(text), None, "{text}");
        }
    }

    #[test]
    fn a_value_is_the_same_however_the_kernel_writes_it() {
        let check = |setting, written: &str, read: &str, expected: bool| {
            assert_eq!(is_same(setting, written, read), expected, "{setting:?}: {written:?}, {read:?}");
        };
        check(Setting::Memory, "67108864", "67108864", true);
        check(Setting::Memory, "1000000", "999424", true);
        check(Setting::Memory, "max", "9223372036854771712", true);
        check(Setting::Memory, "-1", "max", true);
        check(Setting::Memory, "67108864", "max", false);
        check(Setting::Memory, "67108864", "33554432", false);
        check(Setting::Swap, "0", "0", true);
        check(Setting::Swap, "0", "max", false);
        check(Setting::CpuTime, "20000", "20000", true);
        check(Setting::CpuTime, "-1", "-1", true);
        check(Setting::CpuTime, "20000", "-1", false);
        check(Setting::CpuTime, "20000 100000", "20000 100000", true);
        check(Setting::CpuTime, "max", "max 100000", true);
        check(Setting::CpuTime, "max 100000", "max 50000", false);
        check(Setting::CpuTime, "max 100000", "20000 100000", false);
        check(Setting::Cpus, "0,1", "0-1", true);
        check(Setting::Cpus, "", "", true);
        check(Setting::Cpus, "", "0", false);
        check(Setting::Cpus, "0", "", false);
        check(Setting::Processes, "max", "max", true);
        check(Setting::Processes, "30", "31", false);
    }

    #[test]
    fn an_empty_value_empties_the_file_and_what_did_not_take_the_value_is_told() {
        // A file of a control group keeps nothing of what was there before; this one keeps what is longer.
        let file = tempfile::NamedTempFile::new().unwrap();
        let check = |was: &str, value: &str| {
            std::fs::write(file.path(), was).unwrap();
            set(file.path(), Setting::Cpus, value).map_err(|error| error.to_string())
        };
        assert_eq!(check("0", ""), Ok(()), "one byte was written over it");
        assert_eq!(
            check("0-1", "0"),
            Err(format!(
                "the kernel did not keep a setting: {} is \"0-1\" after \"0\" was written to it",
                file.path().display()
            ))
        );
    }

    #[test]
    fn where_no_processors_cannot_be_named_all_above_are() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("group/cpuset.cpus");
        assert_eq!(above(&file), None);
        for (text, expected) in [("0-1\n", Some("0-1")), ("\n", None)] {
            std::fs::write(top.path().join("cpuset.cpus.effective"), text).unwrap();
            assert_eq!(above(&file).as_deref(), expected);
        }
        // This device refuses each write as the kernel does there.
        let refused = write(Path::new("/dev/full"), "").unwrap_err();
        assert!(has(&refused, &[Errno::ENOSPC]) && !is_gone(&refused), "{refused:#}");
    }

    #[test]
    fn what_is_gone_needs_no_putting_back() {
        let group = Group::named("mancer-e2e-never-made/x");
        group.put_back(Setting::Memory, "max").unwrap();
        assert!(group.read(Setting::Memory).is_err());
    }
}
