//! Usage of a cgroup, read again and again from files that are kept open. A file of a removed cgroup cannot be read any more, even when
//! there is a new cgroup of the same name: so the usage of a restarted container is never taken for that of the old one.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use walkdir::WalkDir;

use super::version::{controller, unified};
use super::{Group, Version};

/// Maximum number of bytes of a read that has certainly returned the whole file: of a longer file the kernel returns at least a page, less
/// one line that did not fit.
const WHOLE_BYTES: usize = 3072;

/// Maximum length of a file's text that is read, in bytes: enough for `io.stat` on a host with hundreds of disks.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Usage of a cgroup since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Processor time used, in user space and in the kernel, in nanoseconds.
    pub cpu_ns: u64,
    /// Processor time in user space, in nanoseconds: only its ratio to `system_ns` is meaningful, as the two need not add up to `cpu_ns`.
    pub user_ns: u64,
    /// Processor time in the kernel, in nanoseconds.
    pub system_ns: u64,
    /// Time for which the cgroup was throttled because its quota of processor time was used up, in nanoseconds, added up over processors.
    pub throttled_ns: u64,
    /// Time for which at least one task of the cgroup was waiting for a processor, in nanoseconds; `None` where the kernel does not count
    /// it.
    pub waited_ns: Option<u64>,
    /// Number of processes that the kernel has killed for want of memory.
    pub oom_kills: u64,
    /// Reads and writes of disks; `None` with cgroup version 1, whose counters miss delayed writes.
    pub disk: Option<DiskCounted>,
}

/// Reads and writes of block devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskCounted {
    pub read_bytes: u64,
    pub written_bytes: u64,
    /// Number of read requests.
    pub read_ops: u64,
    /// Number of write requests.
    pub write_ops: u64,
}

/// Present usage of a cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Present {
    /// Memory in use, in bytes, files that are kept in memory included.
    pub memory_bytes: u64,
    /// Number of processes and threads.
    pub processes: u64,
}

/// Open files from which the usage of one cgroup is read.
#[derive(Debug)]
pub struct Counters {
    cpu: Cpu,
    throttled: Option<File>,
    pressure: Option<File>,
    memory: File,
    peak: Peak,
    oom: Oom,
    disk: Option<File>,
    processes: File,
}

#[derive(Debug)]
enum Cpu {
    /// `cpu.stat` of version 2, which a version 2 tree without controllers has too.
    Stat(File),
    /// Files of version 1: all processor time, and its parts in user space and in the kernel.
    Accounting { all: File, user: File, system: File },
}

#[derive(Debug)]
enum Oom {
    /// File of version 2, which counts kills in the cgroups below as well.
    Whole(File),
    /// Folder of version 1, where each cgroup counts its own kills only: the counts of all cgroups below are added up.
    Apart { folder: PathBuf, on_host: Option<u64>, sum: u64, total: u64 },
}

/// Peak of a cgroup's memory since the last [`Counters::begin_peak`].
#[derive(Debug)]
struct Peak {
    /// File of the kernel's peak; `None` with version 2 in kernels before 5.19.
    file: Option<File>,
    /// True if the kernel's peak can be reset.
    begins_anew: bool,
    /// Kernel's peak at the last [`Counters::begin_peak`], where the peak cannot be reset.
    at_begin: u64,
}

impl Group {
    /// Opens the files from which the usage of the cgroup is read.
    ///
    /// # Errors
    /// Also when the kernel lacks a controller that every lab needs.
    pub fn counters(&self) -> anyhow::Result<Counters> {
        let folder = |name: &str| -> anyhow::Result<(PathBuf, Version)> {
            let (top, version) =
                controller(name).with_context(|| format!("this host has no cgroup controller {name}"))?;
            Ok((top.join(self.name()), version))
        };
        let of_version_2 = unified().map(|top| top.join(self.name()));
        let stat = of_version_2.as_ref().and_then(|folder| File::open(folder.join("cpu.stat")).ok());
        let cpu = match stat {
            Some(file) => Cpu::Stat(file),
            None => {
                let (folder, _) = folder("cpuacct")?;
                let file = |name: &str| open(&folder.join(name));
                Cpu::Accounting {
                    all: file("cpuacct.usage")?,
                    user: file("cpuacct.usage_user")?,
                    system: file("cpuacct.usage_sys")?,
                }
            }
        };
        // Of version 2 it stands in the file above.
        let throttled = match folder("cpu")? {
            (folder, Version::V1) => Some(open(&folder.join("cpu.stat"))?),
            (_, Version::V2) => None,
        };
        // Where the kernel was told to keep no pressure, opening or reading it fails.
        let pressure = of_version_2.and_then(|folder| File::open(folder.join("cpu.pressure")).ok());
        let pressure = pressure.filter(|file| text_of(file).is_ok());
        let (memory_folder, version) = folder("memory")?;
        let (now, peak, oom) = match version {
            Version::V1 => {
                let oom = Oom::Apart { folder: memory_folder.clone(), on_host: None, sum: 0, total: 0 };
                ("memory.usage_in_bytes", "memory.max_usage_in_bytes", oom)
            }
            Version::V2 => ("memory.current", "memory.peak", Oom::Whole(open(&memory_folder.join("memory.events"))?)),
        };
        let disk = match folder("io") {
            Ok((folder, Version::V2)) => File::open(folder.join("io.stat")).ok(),
            _ => None,
        };
        Ok(Counters {
            cpu,
            throttled,
            pressure,
            memory: open(&memory_folder.join(now))?,
            peak: Peak::open(&memory_folder.join(peak)),
            oom,
            disk,
            processes: open(&folder("pids")?.0.join("pids.current"))?,
        })
    }
}

impl Counters {
    /// Returns the cgroup's usage since it was made, and its present usage. `killed_on_host` is the number of processes that the kernel has
    /// killed for want of memory on the whole machine: the cgroups of version 1 are searched only when it has changed.
    ///
    /// # Errors
    /// Also when the cgroup is gone.
    pub fn read(&mut self, killed_on_host: Option<u64>) -> anyhow::Result<(Counted, Present)> {
        let mut counted = match &self.cpu {
            Cpu::Stat(file) => parse_cpu_stat(&text_of(file)?).context("cpu.stat has an unexpected format")?,
            Cpu::Accounting { all, user, system } => Counted {
                cpu_ns: number_of(all)?,
                user_ns: number_of(user)?,
                system_ns: number_of(system)?,
                ..Counted::default()
            },
        };
        if let Some(file) = &self.throttled {
            counted.throttled_ns = value(&text_of(file)?, "throttled_time").unwrap_or(0);
        }
        counted.waited_ns = match &self.pressure {
            Some(file) => parse_pressure(&text_of(file)?),
            None => None,
        };
        counted.oom_kills = self.oom.read(killed_on_host)?;
        counted.disk = match &self.disk {
            Some(file) => Some(parse_io_stat(&text_of(file)?)),
            None => None,
        };
        let present = Present { memory_bytes: number_of(&self.memory)?, processes: number_of(&self.processes)? };
        Ok((counted, present))
    }

    /// Returns the most memory, in bytes, that the cgroup had at once since [`Counters::begin_peak`]. Kernels that cannot reset their peak
    /// (version 2 before 6.12) know the peak only where it is higher than any earlier one; otherwise `memory_bytes`, the cgroup's present
    /// memory, is returned.
    pub fn peak(&self, memory_bytes: u64) -> u64 {
        self.peak.since_begin(self.peak.read(), memory_bytes)
    }

    /// Begins the period whose peak [`Counters::peak`] returns.
    pub fn begin_peak(&mut self) {
        self.peak.begin();
    }
}

impl Peak {
    fn open(path: &Path) -> Self {
        let writable = File::options().read(true).write(true).open(path).ok();
        let begins_anew = writable.is_some();
        Self { file: writable.or_else(|| File::open(path).ok()), begins_anew, at_begin: 0 }
    }

    fn read(&self) -> Option<u64> {
        number_of(self.file.as_ref()?).ok()
    }

    fn begin(&mut self) {
        if self.begins_anew {
            // Version 1 wants a 0 and begins anew for all, version 2 takes any word and does it for this file.
            self.begins_anew = self.file.as_ref().is_some_and(|file| file.write_at(b"0", 0).is_ok());
        }
        self.at_begin = if self.begins_anew { 0 } else { self.read().unwrap_or(0) };
    }

    fn since_begin(&self, shown: Option<u64>, memory_bytes: u64) -> u64 {
        shown.filter(|shown| *shown > self.at_begin).unwrap_or(0).max(memory_bytes)
    }
}

impl Oom {
    fn read(&mut self, now_on_host: Option<u64>) -> anyhow::Result<u64> {
        match self {
            Self::Whole(file) => Ok(value(&text_of(file)?, "oom_kill").unwrap_or(0)),
            Self::Apart { folder, on_host, sum, total } => {
                if now_on_host.is_none() || *on_host != now_on_host {
                    let now = killed_below(folder);
                    // Groups that are gone took their count with them.
                    *total += now.saturating_sub(*sum);
                    *sum = now;
                    *on_host = now_on_host;
                }
                Ok(*total)
            }
        }
    }
}

fn killed_below(folder: &Path) -> u64 {
    let groups = WalkDir::new(folder).into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_dir());
    let texts = groups.filter_map(|group| std::fs::read_to_string(group.path().join("memory.oom_control")).ok());
    texts.filter_map(|text| value(&text, "oom_kill")).sum()
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("opening {}", path.display()))
}

/// Reads the text of a file of the kernel, from its start, without moving its offset.
pub fn text_of(file: &File) -> std::io::Result<String> {
    let mut bytes = Vec::with_capacity(4096);
    let mut piece = [0; 4096];
    loop {
        let count = file.read_at(&mut piece, bytes.len() as u64)?;
        bytes.extend_from_slice(&piece[..count]);
        if count < WHOLE_BYTES && bytes.len() < WHOLE_BYTES || count == 0 || bytes.len() > TEXT_BYTES_MAX {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}

fn number_of(file: &File) -> anyhow::Result<u64> {
    let text = text_of(file)?;
    text.trim().parse().with_context(|| format!("the kernel's counter {text:?} is no number"))
}

/// Parses the number on the line that begins with the word `key`.
pub(in crate::host) fn value(text: &str, key: &str) -> Option<u64> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(word, _)| *word == key).find_map(|(_, value)| value.trim().parse().ok())
}

/// Parses `cpu.stat` of version 2, whose times are in microseconds; a cgroup that is never throttled has no throttled time.
fn parse_cpu_stat(text: &str) -> Option<Counted> {
    let nanoseconds = |key: &str| value(text, key).map(|microseconds| microseconds.saturating_mul(1000));
    Some(Counted {
        cpu_ns: nanoseconds("usage_usec")?,
        user_ns: nanoseconds("user_usec")?,
        system_ns: nanoseconds("system_usec")?,
        throttled_ns: nanoseconds("throttled_usec").unwrap_or(0),
        ..Counted::default()
    })
}

/// Parses the total of `some avg10=0.00 avg60=0.00 avg300=0.00 total=13235`, in microseconds, and returns it in nanoseconds.
fn parse_pressure(text: &str) -> Option<u64> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    let total = some.split(' ').find_map(|word| word.strip_prefix("total="))?;
    Some(total.parse::<u64>().ok()?.saturating_mul(1000))
}

/// Adds up `io.stat` of version 2, which has a line for each device, `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn parse_io_stat(text: &str) -> DiskCounted {
    let sum = |key: &str| {
        let words = text.lines().flat_map(|line| line.split(' ').skip(1)).filter_map(|word| word.split_once('='));
        words.filter(|(name, _)| *name == key).filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
    };
    DiskCounted {
        read_bytes: sum("rbytes"),
        written_bytes: sum("wbytes"),
        read_ops: sum("rios"),
        write_ops: sum("wios"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_of_version_2() {
        let plain = "usage_usec 23887\nuser_usec 3000\nsystem_usec 20887\nnice_usec 0\n";
        let counted = parse_cpu_stat(plain).unwrap();
        assert_eq!((counted.cpu_ns, counted.user_ns, counted.system_ns), (23_887_000, 3_000_000, 20_887_000));
        assert_eq!(counted.throttled_ns, 0, "a group without the controller is not throttled");
        let bounded = format!("{plain}nr_periods 8\nnr_throttled 2\nthrottled_usec 41\n");
        assert_eq!(parse_cpu_stat(&bounded).unwrap().throttled_ns, 41_000);
        assert_eq!(parse_cpu_stat("nr_periods 8\nnr_throttled 0\nthrottled_time 0\n"), None, "that is version 1");
    }

    #[test]
    fn throttling_of_version_1_is_in_nanoseconds() {
        assert_eq!(value("nr_periods 8\nnr_throttled 2\nthrottled_time 5123\n", "throttled_time"), Some(5123));
    }

    #[test]
    fn pressure_is_that_of_any_task() {
        let text =
            "some avg10=0.00 avg60=1.00 avg300=0.00 total=13235\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=11\n";
        assert_eq!(parse_pressure(text), Some(13_235_000));
        assert_eq!(parse_pressure(""), None);
    }

    #[test]
    fn disks_are_added_up() {
        let expected = DiskCounted { read_bytes: 5000, written_bytes: 700, read_ops: 3, write_ops: 2 };
        let text = "7:0 rbytes=4000 wbytes=700 rios=2 wios=2 dbytes=0 dios=0\n8:0 rbytes=1000 wbytes=0 rios=1 wios=0\n";
        assert_eq!(parse_io_stat(text), expected);
        assert_eq!(parse_io_stat(""), DiskCounted::default());
        assert_eq!(parse_io_stat("8:0 \n"), DiskCounted::default(), "a device that nobody has used");
    }

    #[test]
    fn a_peak_that_cannot_begin_anew_counts_only_where_it_rose() {
        let mut peak = Peak { file: None, begins_anew: false, at_begin: 900 };
        assert_eq!(peak.since_begin(Some(900), 300), 300);
        assert_eq!(peak.since_begin(Some(950), 300), 950);
        peak.at_begin = 0;
        assert_eq!(peak.since_begin(Some(250), 300), 300, "it has more now than the file says");
        assert_eq!(peak.since_begin(None, 300), 300);
    }

    #[test]
    fn kills_below_are_looked_for_only_when_the_host_has_more_and_never_get_less() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("service");
        std::fs::create_dir(&below).unwrap();
        let write = |path: &Path, count: u32| {
            std::fs::write(path.join("memory.oom_control"), format!("under_oom 0\noom_kill {count}\n")).unwrap();
        };
        write(folder.path(), 1);
        write(&below, 2);
        let mut oom = Oom::Apart { folder: folder.path().to_owned(), on_host: None, sum: 0, total: 0 };
        assert_eq!(oom.read(Some(10)).unwrap(), 3);
        write(&below, 5);
        assert_eq!(oom.read(Some(10)).unwrap(), 3, "nobody was killed on this host");
        assert_eq!(oom.read(Some(13)).unwrap(), 6);
        std::fs::remove_dir_all(&below).unwrap();
        assert_eq!(oom.read(Some(14)).unwrap(), 6, "the group that is gone stays counted");
        write(folder.path(), 2);
        assert_eq!(oom.read(Some(15)).unwrap(), 7);
    }

    #[test]
    fn long_texts_are_read_whole_and_again_from_the_begin() {
        use std::io::Write as _;
        let mut file = tempfile::tempfile().unwrap();
        let long = "0123456789".repeat(1000);
        file.write_all(long.as_bytes()).unwrap();
        assert_eq!(text_of(&file).unwrap(), long);
        assert_eq!(text_of(&file).unwrap(), long);
    }
}
