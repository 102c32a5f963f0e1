//! Counters of a lab's containers, and the usage between two readings of the counters.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::host::cgroup::{Counted, Counters, DiskCounted, Present};
use crate::host::disk::volume_disks::VolumeDisks;
use crate::host::machine::load::OomKills;
use crate::host::network::netns::{DeviceCounted, DeviceTable, Devices};
use crate::lab::{Container, Lab};
use crate::record::{Sample, Usage};

/// Counters of all containers of a lab. Their files are opened once, and again when a container was restarted.
#[derive(Debug)]
pub struct Meters {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    devices: Option<Devices>,
    oom_kills: Option<OomKills>,
    containers: Vec<Meter>,
    /// Readings of all containers at the start of each open measurement, by the measurement's number.
    open: BTreeMap<u64, Vec<Begin>>,
}

/// Counters of a container when a measurement began.
#[derive(Debug, Clone, Copy)]
struct Begin {
    shown: Option<Shown>,
    /// Peak memory of the container since the measurement began.
    peak_bytes: u64,
}

/// Counters of one container.
#[derive(Debug)]
struct Meter {
    container: Container,
    files: Option<Files>,
    /// Number of the container's present life, which a restart ends; each life has its own counters.
    life: u32,
    account: Account,
    /// Peak memory of the container since the session began, in any life.
    peak_bytes: u64,
    /// Processor time of the engine's own work in the container, which is subtracted.
    discounted_ns: u64,
}

/// Open counter files of one life of a container.
#[derive(Debug)]
struct Files {
    group: Counters,
    /// Counters of the container's volumes, used where the container's cgroup does not count disks.
    volumes: VolumeDisks,
}

/// Reading of a container's counters at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shown {
    life: u32,
    used: Used,
    pub present: Present,
}

/// Usage of a container in one life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Used {
    group: Counted,
    port: DeviceCounted,
}

/// Usage of a container since the session began, in all its lives. Usage between the last reading in a life and that life's end is
/// not in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Totals {
    /// Usage, summed over the lives.
    pub usage: Usage,
    /// Processor time without the engine's own work in the container.
    pub cpu_seconds: f64,
}

/// Sample of one container's counters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tick {
    pub usage: Usage,
    pub present: Present,
}

impl Meters {
    /// Opens the counters of a lab and starts counting.
    #[must_use]
    pub fn open(lab: &Lab) -> Self {
        let containers = lab.containers().iter().map(|container| Meter {
            container: container.clone(),
            files: None,
            life: 0,
            account: Account::default(),
            peak_bytes: 0,
            discounted_ns: 0,
        });
        let mut state = State {
            devices: lab.network().devices().ok(),
            oom_kills: OomKills::open(),
            containers: containers.collect(),
            open: BTreeMap::new(),
        };
        let shown = state.look();
        state.begin_peaks();
        // What it had while it came up is not the session's.
        for (meter, shown) in state.containers.iter_mut().zip(shown) {
            meter.peak_bytes = shown.map_or(0, |shown| shown.present.memory_bytes);
        }
        Self { state: Mutex::new(state) }
    }

    /// Begins a measurement with this number.
    pub fn begin(&self, measurement: u64) {
        let mut state = self.state();
        let shown = state.look();
        state.begin_peaks();
        let peak_bytes = |shown: &Option<Shown>| shown.map_or(0, |shown| shown.present.memory_bytes);
        let begins = shown.iter().map(|shown| Begin { shown: *shown, peak_bytes: peak_bytes(shown) }).collect();
        state.open.insert(measurement, begins);
    }

    /// Ends a measurement and returns the usage since its start; `None` where it never began.
    pub fn end(&self, measurement: u64) -> Option<Sample> {
        let mut state = self.state();
        let ends = state.look();
        let begins = state.open.remove(&measurement)?;
        let mut sample = Sample { wait_ms: Some(0.0), ..Sample::default() };
        for ((meter, begin), end) in state.containers.iter().zip(begins).zip(ends) {
            let name = &meter.container.machine().name;
            match between(begin.shown, end) {
                Some(used) => add(&mut sample, name, used.usage(begin.peak_bytes)),
                None => sample.incomplete.push(name.clone()),
            }
        }
        if sample.containers.is_empty() {
            sample.wait_ms = None;
        }
        Some(sample)
    }

    /// Returns the number of a container's present life, and the processor time used in it, in nanoseconds; `None` where it is down.
    pub(super) fn cpu_ns(&self, container: &str) -> Option<(u32, u64)> {
        let mut state = self.state();
        let place = state.place(container)?;
        let shown = state.look().into_iter().nth(place)??;
        Some((shown.life, shown.used.group.cpu_ns))
    }

    /// Subtracts processor time of the engine's own work from a container's usage.
    pub(super) fn discount(&self, container: &str, cpu_ns: u64) {
        let mut state = self.state();
        if let Some(place) = state.place(container) {
            state.containers[place].discounted_ns += cpu_ns;
        }
    }

    /// Returns a container's usage since the session began; `None` where the container was never up.
    #[must_use]
    pub fn totals(&self, container: &str) -> Option<Totals> {
        let mut state = self.state();
        state.look();
        let meter = &state.containers[state.place(container)?];
        let used = meter.account.total()?;
        let cpu_ns = used.group.cpu_ns.saturating_sub(meter.discounted_ns);
        #[expect(clippy::cast_precision_loss, reason = "precise for a hundred days of processor time")]
        Some(Totals { usage: used.usage(meter.peak_bytes), cpu_seconds: cpu_ns as f64 / 1e9 })
    }

    /// Returns the names of the containers, in the order of [`Meters::tick`].
    pub(super) fn names(&self) -> Vec<String> {
        self.state().containers.iter().map(|meter| meter.container.machine().name.clone()).collect()
    }

    /// Returns a sample of each container; `None` for a container that is down.
    pub(super) fn tick(&self) -> Vec<Option<Tick>> {
        let mut state = self.state();
        let shown = state.look();
        let tick = |(meter, shown): (&Meter, Option<Shown>)| {
            let present = shown?.present;
            Some(Tick { usage: meter.account.total()?.usage(meter.peak_bytes), present })
        };
        state.containers.iter().zip(shown).map(tick).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn place(&self, container: &str) -> Option<usize> {
        self.containers.iter().position(|meter| meter.container.machine().name == container)
    }

    /// Reads the counters of all containers, `None` for one that is down, and updates the peaks of the session and of open measurements.
    fn look(&mut self) -> Vec<Option<Shown>> {
        // The ports last: what is counted there stands still as soon as the programs do.
        let killed = self.oom_kills.as_ref().and_then(OomKills::now);
        let groups: Vec<_> = self.containers.iter_mut().map(|meter| meter.group(killed)).collect();
        let table = self.devices.as_ref().and_then(|devices| devices.now().ok());
        let mut all = Vec::new();
        for (place, (meter, group)) in self.containers.iter_mut().zip(groups).enumerate() {
            let shown = group.and_then(|(counted, present)| meter.show(counted, present, table.as_ref()));
            if let (Some(shown), Some(files)) = (&shown, &meter.files) {
                let peak = files.group.peak(shown.present.memory_bytes);
                meter.peak_bytes = meter.peak_bytes.max(peak);
                for begins in self.open.values_mut() {
                    begins[place].peak_bytes = begins[place].peak_bytes.max(peak);
                }
            }
            all.push(shown);
        }
        all
    }

    fn begin_peaks(&mut self) {
        for files in self.containers.iter_mut().filter_map(|meter| meter.files.as_mut()) {
            files.group.begin_peak();
        }
    }
}

impl Meter {
    /// Reads the counters of the container's cgroup, and opens their files anew where they belong to a cgroup that no longer exists; `None`
    /// where the container is down. `killed` is the number of OOM kills on the host.
    fn group(&mut self, killed: Option<u64>) -> Option<(Counted, Present)> {
        if let Some(read) = self.files.as_mut().and_then(|files| files.read(killed)) {
            return Some(read);
        }
        self.files = None;
        let (pid, group) = (self.container.init_pid().ok()?, self.container.group().ok()?);
        let volumes = &self.container.machine().template.volumes;
        let paths: Vec<&str> = volumes.iter().map(|volume| volume.path.as_str()).collect();
        let mut files = Files { group: group.counters().ok()?, volumes: VolumeDisks::open(pid, &paths) };
        let read = files.read(killed)?;
        self.files = Some(files);
        self.life += 1;
        Some(read)
    }

    fn show(&mut self, group: Counted, present: Present, table: Option<&DeviceTable>) -> Option<Shown> {
        let port = table?.device(&self.container.machine().port())?;
        // Seen from the bridge: what the port receives, the container has sent.
        let port = DeviceCounted {
            received_bytes: port.sent_bytes,
            received_packets: port.sent_packets,
            sent_bytes: port.received_bytes,
            sent_packets: port.received_packets,
            dropped_packets: port.dropped_packets,
        };
        let used = Used { group, port };
        if self.account.goes_back(self.life, &used) {
            self.life += 1; // a new life that no file has told of
        }
        self.account.look(self.life, used);
        Some(Shown { life: self.life, used, present })
    }
}

impl Files {
    fn read(&mut self, killed: Option<u64>) -> Option<(Counted, Present)> {
        let (mut counted, present) = self.group.read(killed).ok()?;
        if counted.disk.is_none() {
            counted.disk = Some(self.volumes.read());
        }
        Some((counted, present))
    }
}

/// Adds the usage of a container to a sample.
fn add(sample: &mut Sample, name: &str, usage: Usage) {
    sample.cpu_ms = round(sample.cpu_ms + usage.cpu_user_ms + usage.cpu_system_ms);
    sample.wait_ms = sample.wait_ms.zip(usage.wait_ms).map(|(sum, wait)| round(sum + wait));
    sample.containers.insert(name.to_owned(), usage);
}

/// Sum of a container's usage over its lives.
#[derive(Debug, Default)]
struct Account {
    /// Number of the present life, its usage when counting began, and its usage at the last reading.
    present: Option<(u32, Used, Used)>,
    /// Usage of earlier lives.
    before: Used,
}

impl Account {
    fn goes_back(&self, life: u32, used: &Used) -> bool {
        self.present.is_some_and(|(present, _, last)| present == life && used.since(&last).is_none())
    }

    fn look(&mut self, life: u32, used: Used) {
        self.present = Some(match self.present {
            None => (life, used, used),
            Some((present, begin, _)) if present == life => (life, begin, used),
            // A life that began after the count did counts from its start.
            Some((_, begin, last)) => {
                self.before = self.before.plus(&last.since(&begin).unwrap_or_default());
                (life, Used::nothing_like(&used), used)
            }
        });
    }

    fn total(&self) -> Option<Used> {
        let (_, begin, last) = self.present?;
        let present = last.since(&begin)?;
        Some(self.before.plus(&present))
    }
}

/// Returns the usage between two readings; `None` where the container was down in one of them, or was restarted between them.
fn between(begin: Option<Shown>, end: Option<Shown>) -> Option<Used> {
    let (begin, end) = (begin?, end?);
    if begin.life == end.life { end.used.since(&begin.used) } else { None }
}

impl Used {
    /// Returns a reading with zero for each counter that `other` has.
    fn nothing_like(other: &Self) -> Self {
        let group = Counted {
            waited_ns: other.group.waited_ns.map(|_| 0),
            disk: other.group.disk.map(|_| DiskCounted::default()),
            ..Counted::default()
        };
        Self { group, port: DeviceCounted::default() }
    }

    /// Returns the difference of two readings; `None` where a counter has decreased.
    fn since(&self, begin: &Self) -> Option<Self> {
        let (a, b) = (&self.group, &begin.group);
        let group = Counted {
            cpu_ns: a.cpu_ns.checked_sub(b.cpu_ns)?,
            // Shares of a whole that the kernel works out anew each time: one of them may go back a little.
            user_ns: a.user_ns.saturating_sub(b.user_ns),
            system_ns: a.system_ns.saturating_sub(b.system_ns),
            throttled_ns: a.throttled_ns.checked_sub(b.throttled_ns)?,
            waited_ns: match (a.waited_ns, b.waited_ns) {
                (Some(a), Some(b)) => Some(a.checked_sub(b)?),
                _ => None,
            },
            oom_kills: a.oom_kills.checked_sub(b.oom_kills)?,
            disk: match (a.disk, b.disk) {
                (Some(a), Some(b)) => Some(DiskCounted {
                    read_bytes: a.read_bytes.checked_sub(b.read_bytes)?,
                    written_bytes: a.written_bytes.checked_sub(b.written_bytes)?,
                    read_ops: a.read_ops.checked_sub(b.read_ops)?,
                    write_ops: a.write_ops.checked_sub(b.write_ops)?,
                }),
                _ => None,
            },
        };
        let (a, b) = (&self.port, &begin.port);
        let port = DeviceCounted {
            received_bytes: a.received_bytes.checked_sub(b.received_bytes)?,
            received_packets: a.received_packets.checked_sub(b.received_packets)?,
            sent_bytes: a.sent_bytes.checked_sub(b.sent_bytes)?,
            sent_packets: a.sent_packets.checked_sub(b.sent_packets)?,
            dropped_packets: a.dropped_packets.checked_sub(b.dropped_packets)?,
        };
        Some(Self { group, port })
    }

    /// Returns the sum of two usages. A counter that only one of them has is missing in the sum.
    fn plus(&self, other: &Self) -> Self {
        if *self == Self::default() {
            return *other;
        }
        let (a, b) = (&self.group, &other.group);
        let group = Counted {
            cpu_ns: a.cpu_ns + b.cpu_ns,
            user_ns: a.user_ns + b.user_ns,
            system_ns: a.system_ns + b.system_ns,
            throttled_ns: a.throttled_ns + b.throttled_ns,
            waited_ns: a.waited_ns.zip(b.waited_ns).map(|(a, b)| a + b),
            oom_kills: a.oom_kills + b.oom_kills,
            disk: a.disk.zip(b.disk).map(|(a, b)| DiskCounted {
                read_bytes: a.read_bytes + b.read_bytes,
                written_bytes: a.written_bytes + b.written_bytes,
                read_ops: a.read_ops + b.read_ops,
                write_ops: a.write_ops + b.write_ops,
            }),
        };
        let (a, b) = (&self.port, &other.port);
        let port = DeviceCounted {
            received_bytes: a.received_bytes + b.received_bytes,
            received_packets: a.received_packets + b.received_packets,
            sent_bytes: a.sent_bytes + b.sent_bytes,
            sent_packets: a.sent_packets + b.sent_packets,
            dropped_packets: a.dropped_packets + b.dropped_packets,
        };
        Self { group, port }
    }

    fn usage(&self, memory_peak_bytes: u64) -> Usage {
        let Counted { cpu_ns, user_ns, system_ns, throttled_ns, waited_ns, oom_kills, disk } = self.group;
        let user_ns = user_share(cpu_ns, user_ns, system_ns);
        let (cpu_user_ms, cpu_system_ms) = (milliseconds(user_ns), milliseconds(cpu_ns - user_ns));
        Usage {
            cpu_user_ms,
            cpu_system_ms,
            throttled_ms: milliseconds(throttled_ns),
            wait_ms: waited_ns.map(milliseconds),
            memory_peak_bytes,
            oom_kills,
            read_bytes: disk.map(|disk| disk.read_bytes),
            written_bytes: disk.map(|disk| disk.written_bytes),
            read_ops: disk.map(|disk| disk.read_ops),
            write_ops: disk.map(|disk| disk.write_ops),
            received_bytes: self.port.received_bytes,
            sent_bytes: self.port.sent_bytes,
            received_packets: self.port.received_packets,
            sent_packets: self.port.sent_packets,
            dropped_packets: self.port.dropped_packets,
        }
    }
}

/// Returns the user part of exactly measured processor time, by the ratio of the sampled user and system parts.
fn user_share(cpu_ns: u64, user_ns: u64, system_ns: u64) -> u64 {
    let seen = user_ns.saturating_add(system_ns);
    // Version 2 has made its parts add up already, but for the last microseconds.
    if seen.abs_diff(cpu_ns) <= 4_000 {
        return user_ns.min(cpu_ns);
    }
    if seen == 0 {
        return cpu_ns;
    }
    u64::try_from(u128::from(cpu_ns) * u128::from(user_ns) / u128::from(seen)).unwrap_or(cpu_ns)
}

/// Converts nanoseconds to milliseconds, rounded to the microsecond.
pub(super) fn milliseconds(nanoseconds: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "precise for a hundred days")]
    round(nanoseconds as f64 / 1e6)
}

/// Rounds milliseconds to the microsecond: further digits are no information.
pub(super) fn round(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(cpu_ms: u64, sent_bytes: u64) -> Used {
        let disk = Some(DiskCounted { written_bytes: 10 * sent_bytes, ..DiskCounted::default() });
        let group = Counted { cpu_ns: cpu_ms * 1_000_000, waited_ns: Some(5), disk, ..Counted::default() };
        Used { group, port: DeviceCounted { sent_bytes, ..DeviceCounted::default() } }
    }

    fn shown(life: u32, used: Used) -> Option<Shown> {
        Some(Shown { life, used, present: Present::default() })
    }

    #[test]
    fn what_was_used_is_what_the_counters_gained() {
        let gained = between(shown(1, used(5, 100)), shown(1, used(8, 350))).unwrap().usage(77);
        assert_eq!((gained.cpu_user_ms, gained.sent_bytes, gained.written_bytes), (3.0, 250, Some(2500)));
        assert_eq!((gained.memory_peak_bytes, gained.wait_ms), (77, Some(0.0)));
    }

    #[test]
    fn a_container_that_had_another_life_or_was_down_has_no_usage() {
        let (early, late) = (used(5, 100), used(8, 350));
        assert_eq!(between(shown(1, early), shown(2, late)), None, "another life whose counters are higher by now");
        assert_eq!(between(shown(1, late), shown(1, early)), None, "counters that went back");
        assert_eq!(between(None, shown(1, late)), None);
        assert_eq!(between(shown(1, early), None), None);
        let port_alone = Used { port: early.port, ..late };
        assert_eq!(between(shown(1, late), shown(1, port_alone)), None, "one counter is enough");
    }

    #[test]
    fn an_account_goes_on_over_restarts_and_never_goes_back() {
        let mut account = Account::default();
        assert_eq!(account.total(), None);
        account.look(1, used(100, 1000));
        assert_eq!(account.total().unwrap().usage(0).sent_bytes, 0, "what came before the session does not count");
        account.look(1, used(130, 1500));
        assert!(!account.goes_back(1, &used(130, 1500)) && account.goes_back(1, &used(2, 10)));
        account.look(2, used(2, 10));
        let total = account.total().unwrap().usage(0);
        assert_eq!((total.cpu_user_ms, total.sent_bytes, total.written_bytes), (32.0, 510, Some(5100)));
        account.look(2, used(7, 10));
        assert_eq!(account.total().unwrap().usage(0).cpu_user_ms, 37.0);
        account.look(3, used(1, 1));
        let total = account.total().unwrap().usage(0);
        assert_eq!((total.cpu_user_ms, total.sent_bytes), (38.0, 511));
    }

    #[test]
    fn processor_time_is_shared_out_as_it_was_seen() {
        let group = |user_ns, system_ns| Counted { cpu_ns: 9_000_000, user_ns, system_ns, ..Counted::default() };
        let shares = |group| {
            let usage = Used { group, port: DeviceCounted::default() }.usage(0);
            (usage.cpu_user_ms, usage.cpu_system_ms)
        };
        assert_eq!(shares(group(4_000_000, 8_000_000)), (3.0, 6.0));
        assert_eq!(shares(group(2_000_000, 7_001_000)), (2.0, 7.0), "parts that add up stay as they are");
        assert_eq!(shares(group(0, 1)), (0.0, 9.0));
        assert_eq!(shares(group(0, 0)), (9.0, 0.0), "too short to be seen");
    }

    #[test]
    fn what_the_kernel_does_not_count_is_not_zero() {
        let group = Counted { cpu_ns: 1, ..Counted::default() };
        let usage = Used { group, port: DeviceCounted::default() }.usage(0);
        assert_eq!((usage.wait_ms, usage.read_bytes, usage.written_bytes), (None, None, None));
        let mut sample = Sample { wait_ms: Some(0.0), ..Sample::default() };
        add(&mut sample, "a", used(1, 1).usage(0));
        assert_eq!(sample.wait_ms, Some(0.0));
        add(&mut sample, "b", usage);
        assert_eq!(sample.wait_ms, None, "a sum that lacks one is none");
    }
}
