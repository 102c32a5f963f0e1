//! Build of one layer: takes the slot of the layer's hash, starts a guard and the worker under it, and renames the result into the store.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::statvfs::statvfs;

use super::needs::downloads;
use super::recipe::{Base, Recipe, Sources};
use super::store::{self, Removal, Store, StoredLayer};
use super::worker::{BuildSpec, REFUSED, STEP_MARK, TUN};
use crate::error::Error;
use crate::guard::{Guard, Holder, Make, Slot, Spawn, Wait};
use crate::host::cgroup::Bounds;
use crate::host::container::ids::IdRange;
use crate::host::invoker::Invoker;
use crate::host::machine::load::Memory;
use crate::host::patience::{self, Deadline};
use crate::program::named;

/// Interval at which a running build's log is read for the step that it has reached.
const LOG_INTERVAL: Duration = Duration::from_millis(100);

/// Interval at which a running step is reported again, so that the terminal shows a change at least every 2 s.
const PULSE: Duration = Duration::from_millis(1500);

/// Maximum characters of a line of a build's log in a progress report.
const LOG_LINE_MAX: usize = 72;

/// Deadline for the worker process that builds a layer: longer than any one step may take.
const WORKER_DEADLINE: Deadline = Deadline::from_secs(3600);

/// Memory that stays free for all other programs while a layer is built on a tmpfs.
const MEMORY_KEPT_BYTES: u64 = 3 << 30;

/// Minimum and maximum size of the tmpfs of a build.
const MEMORY_BYTES: (u64, u64) = (2 << 30, 6 << 30);

/// Limit on the memory of a build's programs, beside its tmpfs: the available memory divided by the second number, at least the first
/// (bytes).
const PROGRAMS_BYTES: (u64, u64) = (2 << 30, 4);

/// Maximum number of processes and threads of a build.
const PROCESSES: u32 = 4096;

/// Name of the worker process that builds a layer, for messages and its cgroup.
const WORKER: &str = "worker";

/// Free disk space in bytes that a layer with packages may need, downloads included.
const DISK_BYTES: u64 = 2 << 30;

/// Exit status that is taken for a worker killed because its build reached a limit.
const KILLED: i32 = 137;

/// Number of lines at the end of a build's log that an error shows.
const TAIL_LINES: usize = 30;

/// Progress of a layer's build, for a report to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Another process builds the same layer, and this process waits for it to finish.
    Waiting {
        template: String,
        /// Process that holds the layer's slot.
        what: String,
    },
    /// A build step began, or still runs.
    Building { template: String, step: String },
    Built {
        template: String,
        duration: Duration,
        /// Size of the layer on disk.
        bytes: u64,
    },
}

/// A layer to build.
#[derive(Debug)]
pub struct Job<'a> {
    pub template: &'a str,
    pub hash: &'a str,
    pub recipe: &'a Recipe,
    pub sources: &'a Sources,
    /// Trees of the layers that this one is built on, lowest first.
    pub lowers: Vec<PathBuf>,
    /// On-disk user ids of root's files in each of `lowers`.
    pub first_ids: Vec<u32>,
    /// Ids that own the layer's files on disk, while it is built and in the store.
    pub ids: IdRange,
    /// Size of a tmpfs to build on; `None` for a build on disk.
    pub memory_bytes: Option<u64>,
}

/// Failure of a template's build.
struct BuildFailed {
    template: String,
    /// Step that failed.
    step: String,
    /// The worker's exit status.
    status: i32,
    /// Path of the whole log.
    log: PathBuf,
    /// Last lines of the log.
    tail: String,
    /// True if the log's file system is full, so that the worker's last messages are lost.
    is_log_full: bool,
    /// Description of the limit that the build has reached, if any.
    met: Option<String>,
    /// True for the layer of `--set`, which repeats the template's `run` steps.
    repeats_steps: bool,
}

impl fmt::Display for BuildFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { template, step, status, log, tail, is_log_full, met, repeats_steps } = self;
        write!(f, "the template {template} does not build: ")?;
        match step.as_str() {
            "" => writeln!(f, "the build ended before its first step (status {status})")?,
            step => writeln!(f, "step `{step}` failed (status {status})")?,
        }
        if let Some(met) = met {
            writeln!(f, "  {met}")?;
        }
        if *is_log_full && !tail.contains(NO_SPACE.0) {
            writeln!(f, "  the file system of the log is full, so the last messages of the build are missing")?;
        }
        let help = match (is_log_full, met) {
            (true, _) => Some(NO_SPACE.1),
            (false, Some(_)) => Some(BOUNDED),
            (false, None) => help(tail).or((*repeats_steps && step.starts_with("run ")).then_some(REPEATED)),
        };
        if let Some(help) = help {
            writeln!(f, "  help: {}", named(help))?;
        }
        if tail.trim().is_empty() {
            return write!(f, "  {} is empty", log.display());
        }
        writeln!(f, "  the end of {}:", log.display())?;
        write!(f, "    {}", tail.replace('\n', "\n    "))
    }
}

/// Text in a log that tells of a full disk or tmpfs, and the help for it.
const NO_SPACE: (&str, &str) =
    ("No space left on device", "free disk space or memory; `cargo xtask image prune` removes layers nothing uses");

/// Help for a build that has reached a limit.
const BOUNDED: &str = "have the step do less at once, for example with fewer jobs side by side";

/// Help for a `run` step that failed where `--set` repeats it.
const REPEATED: &str = "`--set` repeats the template's `run` steps on the layer where they ran before: write them so that they can be \
                        repeated, such as `mkdir -p`";

/// Free bytes on the log's file system below which it counts as full.
const LOG_ROOM_BYTES: u64 = 64 << 10;

/// Returns help for a build whose log contains the text of a known problem.
fn help(tail: &str) -> Option<&'static str> {
    let known = [
        NO_SPACE,
        ("Cannot allocate memory", "free memory, or build fewer templates at once: `cargo xtask image build NAME`"),
        ("Temporary failure resolving", "this machine cannot resolve host names: repair its DNS, and build again"),
        (
            "Temporary failure in name resolution",
            "this machine cannot resolve host names: repair its DNS, and build again",
        ),
        (
            "Unable to locate package",
            "the Debian release has no package of this name: correct `packages` in template.toml",
        ),
        ("No module named pip", "install uv or pip for python3: `cargo xtask setup` does"),
        ("NO_PUBKEY", "this machine lacks the Debian archive's keyring: `cargo xtask setup` installs it"),
        ("`mmdebstrap` is not installed", "`cargo xtask setup` installs it"),
        ("mmdebstrap: No such file or directory", "mmdebstrap is not installed: `cargo xtask setup` installs it"),
    ];
    known.into_iter().find(|(sign, _)| tail.contains(sign)).map(|(_, help)| help)
}

/// Builds a layer; returns it with true, or with false if another process built it during the wait for its slot. `unchanged` tells whether
/// the recipe's source files are still the same.
///
/// # Errors
/// [`Error::Build`]; [`Error::Host`] when there is no room; [`Error::Interrupted`].
pub fn build(
    store: &Store,
    job: &Job<'_>,
    unchanged: &dyn Fn() -> anyhow::Result<bool>,
    observe: &(dyn Fn(Progress) + Sync),
    interrupted: &(dyn Fn() -> bool + Sync),
) -> anyhow::Result<(StoredLayer, bool)> {
    store.create()?;
    let slot = Slot::named(&format!("build-{}", &job.hash[..12]));
    let waiting = |holder: &Holder| {
        let what = match &holder.owner {
            Some(owner) => format!("process {}, which builds the same layer", owner.engine_pid),
            None => format!("{holder}, which holds the slot of the same layer"),
        };
        observe(Progress::Waiting { template: job.template.to_owned(), what });
        Ok(())
    };
    let purpose = format!("layer of the template {}", job.template);
    let guard = Guard::start(slot, &purpose, Wait::UntilFree, waiting, &interrupted)?;
    let outcome = match store.find(job.hash) {
        Ok(Some(layer)) => Ok((layer, false)),
        Ok(None) => under_guard(store, job, unchanged, &guard, observe, interrupted).map(|layer| (layer, true)),
        Err(error) => Err(error),
    };
    let down = guard.down();
    let layer = outcome?;
    down?;
    Ok(layer)
}

fn under_guard(
    store: &Store,
    job: &Job<'_>,
    unchanged: &dyn Fn() -> anyhow::Result<bool>,
    guard: &Guard,
    observe: &(dyn Fn(Progress) + Sync),
    interrupted: &(dyn Fn() -> bool + Sync),
) -> anyhow::Result<StoredLayer> {
    let started = Instant::now();
    check_room(store, job)?;
    let _parents = store::lock_shared(&job.lowers)?;
    store.clear_place(job.hash, job.template)?;
    let staging = store.staging_dir(job.hash);
    super::tree::remove(&staging).with_context(|| format!("removing {}", staging.display()))?;
    guard.make(vec![Make::Marked { path: staging.clone(), mode: 0o700 }])?;
    let log = store.log(job.template);
    fs::write(&log, "").with_context(|| format!("writing {}", log.display()))?;
    let group = format!("{}/{WORKER}", guard.slot().cgroup());
    let bounds = bounds(Memory::now().available_bytes, job.memory_bytes);
    let process = guard.spawn(worker(job, staging.clone(), guard, &log, (&group, bounds))?)?;

    let end = started + WORKER_DEADLINE.scaled();
    let tell = |step: String| observe(Progress::Building { template: job.template.to_owned(), step });
    let (mut last_step, mut step_began, mut told) = (String::new(), started, started);
    let (status, met) = loop {
        let ended = process.wait(LOG_INTERVAL);
        if let Some(step) = current_step(&log).filter(|step| *step != last_step) {
            tell(step.clone());
            last_step = step;
            (step_began, told) = (Instant::now(), Instant::now());
        } else if told.elapsed() >= PULSE {
            tell(going_on(&last_step, step_began.elapsed(), &log));
            told = Instant::now();
        }
        let met = bounds.met(&group);
        if met.is_some() || ended.is_some() {
            let status = match ended {
                Some(end) => end.shell_status(),
                None => KILLED,
            };
            break (status, met);
        }
        if interrupted() {
            return Err(Error::Interrupted.into());
        }
        if Instant::now() > end {
            last_step += &format!(" (it did not end within {WORKER_DEADLINE})");
            break (124, None);
        }
    };
    // A step that goes on without a program that was killed has made something else than it should.
    if status != 0 || met.is_some() {
        if let (Ok(refusal), None) = (fs::read_to_string(staging.join(REFUSED)), &met) {
            return Err(Error::Usage(refusal).into());
        }
        let tail = tail(&log);
        let free = statvfs(&store.layers()).map(|counts| counts.blocks_available() * counts.fragment_size());
        let is_log_full = free.is_ok_and(|bytes| bytes < LOG_ROOM_BYTES);
        let template = job.template.to_owned();
        let repeats_steps = job.recipe.python.as_ref().is_some_and(|python| !python.replacements.is_empty());
        let failed = BuildFailed { template, step: last_step, status, log, tail, is_log_full, met, repeats_steps };
        return Err(Error::Build(failed.to_string()).into());
    }
    if !unchanged()? {
        anyhow::bail!("the files of the template {} changed while it was built: build it again", job.template);
    }
    if store.remove_children(job.hash)? == Removal::InUse {
        anyhow::bail!(
            "layers built on the earlier layer of template {} are in use: end the labs that use them, then build again",
            job.template
        );
    }
    store.publish(job.hash)?;
    let layer = store.find(job.hash)?.with_context(|| {
        format!("the layer of template {} is missing from the store right after its build", job.template)
    })?;
    observe(Progress::Built {
        template: job.template.to_owned(),
        duration: started.elapsed(),
        bytes: layer.record.size_bytes,
    });
    Ok(layer)
}

fn worker(
    job: &Job<'_>,
    staging: PathBuf,
    guard: &Guard,
    log: &Path,
    (group, bounds): (&str, Bounds),
) -> anyhow::Result<Spawn> {
    let spec = BuildSpec {
        template: job.template.to_owned(),
        hash: job.hash.to_owned(),
        staging,
        lowers: job.lowers.clone(),
        first_ids: job.first_ids.clone(),
        ids: job.ids,
        workplace: guard.slot().dir().parent().context("the slot's folder has no parent")?.to_owned(),
        memory_bytes: job.memory_bytes,
        recipe: job.recipe.clone(),
        sources: job.sources.clone(),
        invoker: Invoker::of_process().clone(),
        group: group.to_owned(),
        bounds,
    };
    let path = guard.slot().write("spec.json", serde_json::to_string(&spec)?.as_bytes())?;
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    // Who called sudo stands in the order; a worker that finds it in its environment was called by a person.
    let environment = environment.filter(|(name, _)| !name.starts_with("SUDO_"));
    Ok(Spawn {
        name: WORKER.into(),
        argv: vec!["/proc/self/exe".into(), "build-layer".into(), path.display().to_string()],
        environment: environment.chain([patience::variable()]).collect(),
        log: log.to_owned(),
        filtered: None,
    })
}

/// Returns the limits of a build's cgroup. Memory of its tmpfs is added, since it counts for the cgroup that writes there.
fn bounds(available_bytes: u64, tmpfs_bytes: Option<u64>) -> Bounds {
    let (least, part) = PROGRAMS_BYTES;
    Bounds { memory_bytes: (available_bytes / part).max(least) + tmpfs_bytes.unwrap_or(0), processes: PROCESSES }
}

fn check_room(store: &Store, job: &Job<'_>) -> anyhow::Result<()> {
    if downloads(job.recipe) && !Path::new(TUN).exists() {
        return Err(Error::Host {
            problem: format!("{TUN} is missing: the build of template {} needs it to download packages", job.template),
            help: "run `modprobe tun`; if this host is a container, pass the device into it; or copy the layer from another machine"
                .into(),
        }
        .into());
    }
    if job.recipe.base == Base::Nothing {
        return Ok(());
    }
    let layers = store.layers();
    let disk = statvfs(&layers).with_context(|| format!("asking for the free space of {}", layers.display()))?;
    let free_bytes = disk.blocks_available() * disk.fragment_size();
    if free_bytes < DISK_BYTES {
        return Err(Error::Host {
            problem: format!(
                "{} has {} MiB free; the build of template {} may need {} MiB",
                layers.display(),
                free_bytes >> 20,
                job.template,
                DISK_BYTES >> 20
            ),
            help: "free space there: `cargo xtask image prune` removes layers that nothing uses".into(),
        }
        .into());
    }
    Ok(())
}

/// Returns the tmpfs size in bytes of each of `builds` simultaneous builds; `None` where memory is too small.
pub fn memory_for_each(builds: usize) -> Option<u64> {
    share_of_memory(Memory::now().available_bytes, builds)
}

fn share_of_memory(available_bytes: u64, builds: usize) -> Option<u64> {
    let share = available_bytes.checked_sub(MEMORY_KEPT_BYTES)? / u64::try_from(builds.max(1)).ok()?;
    (share >= MEMORY_BYTES.0).then_some(share.min(MEMORY_BYTES.1))
}

fn current_step(log: &Path) -> Option<String> {
    let text = String::from_utf8_lossy(&fs::read(log).ok()?).into_owned();
    text.lines().rev().find_map(|line| line.strip_prefix(STEP_MARK)).map(str::to_owned)
}

/// Describes a running step: its name, its duration so far, and the last line that it wrote.
fn going_on(step: &str, since: Duration, log: &Path) -> String {
    let step = if step.is_empty() { "begins" } else { step };
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // A line that is drawn anew ends with a carriage return.
    let lines = text.rsplit(['\n', '\r']).map(str::trim).take_while(|line| !line.starts_with(STEP_MARK.trim()));
    let line = { lines }.find(|line| !line.is_empty());
    let line =
        line.map_or_else(String::new, |line| format!(": {}", line.chars().take(LOG_LINE_MAX).collect::<String>()));
    format!("{step}, {} s{line}", since.as_secs())
}

fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tmpfs_is_used_only_where_memory_is_left_for_others() {
        for (gib, builds, expected) in [
            (4, 1, None),
            (5, 1, Some(2 << 30)),
            (5, 2, None),
            (7, 2, Some(2 << 30)),
            (64, 1, Some(6 << 30)),
            (2, 1, None),
        ] {
            assert_eq!(share_of_memory(gib << 30, builds), expected, "{gib} GiB, {builds} builds");
        }
    }

    #[test]
    fn a_step_that_goes_on_is_told_with_its_last_line() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("t.log");
        for (written, expected) in [
            ("", "packages, 12 s"),
            ("earlier\n==> packages\n", "packages, 12 s"),
            ("==> packages\nUnpacking a ...\n\n", "packages, 12 s: Unpacking a ..."),
            ("==> packages\n 10 %\r 20 %\r", "packages, 12 s: 20 %"),
        ] {
            fs::write(&log, written).unwrap();
            assert_eq!(going_on("packages", Duration::from_secs(12), &log), expected);
        }
        assert_eq!(going_on("", Duration::ZERO, &folder.path().join("none")), "begins, 0 s");
    }

    #[test]
    fn a_failed_build_says_the_step_the_help_and_the_logs_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("t.log");
        let lines: String = (0..50).map(|number| format!("line {number}\n")).collect();
        fs::write(&log, format!("==> packages\n{lines}E: Unable to locate package nosuch\n")).unwrap();
        assert_eq!(current_step(&log).as_deref(), Some("packages"));
        let (step, tail) = (current_step(&log).unwrap(), tail(&log));
        let failed = BuildFailed {
            template: "t".into(),
            step,
            status: 100,
            log,
            tail,
            is_log_full: false,
            met: None,
            repeats_steps: false,
        };
        let error = failed.to_string();
        assert!(error.contains("the template t does not build: step `packages` failed (status 100)"), "{error}");
        assert!(error.contains("help: the Debian release has no package"), "{error}");
        assert!(error.contains("line 49") && !error.contains("line 5\n"), "{error}");
        let repeated =
            BuildFailed { step: "run mkdir /x".into(), tail: "exists".into(), repeats_steps: true, ..failed };
        let error = repeated.to_string();
        assert!(error.contains("help: `--set` repeats the template's `run` steps"), "{error}");
        let failed = BuildFailed { repeats_steps: false, ..repeated };
        assert!(!failed.to_string().contains("help"), "{failed}");
        let lost = BuildFailed { step: String::new(), status: 3, tail: String::new(), is_log_full: true, ..failed };
        let error = lost.to_string();
        assert!(error.contains("the build ended before its first step (status 3)"), "{error}");
        assert!(error.contains("the file system of the log is full") && error.ends_with("t.log is empty"), "{error}");
        assert!(error.contains("help: free disk space"), "{error}");
    }

    #[test]
    fn a_build_that_met_a_bound_says_which_and_what_to_do() {
        let met = Some("the build wanted to have more than 7 processes at once".to_owned());
        let (tail, log) = ("E: Unable to locate package x".to_owned(), PathBuf::from("t.log"));
        let failed = BuildFailed {
            template: "t".into(),
            step: "run x".into(),
            status: 137,
            log,
            tail,
            is_log_full: false,
            met,
            repeats_steps: true,
        };
        let error = failed.to_string();
        assert!(error.contains("more than 7 processes at once\n  help: have the step do less at once"), "{error}");
    }

    #[test]
    fn a_build_has_memory_for_its_programs_beside_its_files() {
        assert_eq!(bounds(1 << 30, None).memory_bytes, 2 << 30);
        assert_eq!(bounds(16 << 30, None).memory_bytes, 4 << 30);
        assert_eq!(bounds(16 << 30, Some(6 << 30)).memory_bytes, 10 << 30);
    }
}
