//! Sampler of all containers' counters at regular intervals, in a thread of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::usage::{Meters, Tick};
use crate::host::machine::load::{Load, LoadGauge, own_cpu_time};
use crate::record::{Recorder, Sampling, Usage, milliseconds};

/// Maximum number of samples kept. When it is reached, every second one is dropped, and the interval is doubled.
const KEPT_MAX: usize = 2400;

/// Running sampler.
#[derive(Debug)]
pub struct Sampler {
    stop: Sender<()>,
    thread: JoinHandle<Sampling>,
}

impl Sampler {
    /// Starts to sample, `rate_hz` times per second. The times of samples are on the recorder's clock.
    pub fn start(meters: Arc<Meters>, rate_hz: u32, clock: Arc<Recorder>) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::Builder::new().name("sampler".into()).spawn(move || {
            let mut gauge = LoadGauge::new();
            let mut series = Series::new(meters.names(), KEPT_MAX);
            let period = Duration::from_secs(1) / rate_hz.max(1);
            let (begun, mut ticks, mut due) = (Instant::now(), 0, Duration::ZERO);
            let mut look = |series: &mut Series| {
                series.push(milliseconds(clock.elapsed()), &meters.tick(), &gauge.look());
                ticks += 1;
            };
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(due.saturating_sub(begun.elapsed())) {
                let at = begun.elapsed();
                look(&mut series);
                due = next(at, period * series.thinned);
            }
            // What came after the last look on the grid shows in one at the end.
            let duration = begun.elapsed();
            look(&mut series);
            Sampling {
                rate_hz,
                thinned: series.thinned,
                ticks,
                own_cpu_ms: milliseconds(own_cpu_time()),
                duration_ms: milliseconds(duration),
                at_ms: series.at_ms,
                series: series.names.into_iter().zip(series.containers).collect(),
                host: series.host,
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Stops the sampler and returns its samples; `None` where its thread has panicked.
    #[must_use]
    pub fn end(self) -> Option<Sampling> {
        drop(self.stop);
        self.thread.join().ok()
    }
}

/// Returns the time of the next sample after one at `at`: a whole number of periods since the start. Missed samples are left out.
fn next(at: Duration, period: Duration) -> Duration {
    let periods = at.as_nanos() / period.as_nanos() + 1;
    period.saturating_mul(u32::try_from(periods).unwrap_or(u32::MAX))
}

type Columns = BTreeMap<String, Vec<Option<f64>>>;

/// Kept samples: a column for each counter of every container and of the host.
#[derive(Debug)]
struct Series {
    names: Vec<String>,
    kept_max: usize,
    thinned: u32,
    at_ms: Vec<f64>,
    containers: Vec<Columns>,
    host: Columns,
}

impl Series {
    fn new(names: Vec<String>, kept_max: usize) -> Self {
        let containers = vec![Columns::new(); names.len()];
        Self { names, kept_max, thinned: 1, at_ms: Vec::new(), containers, host: Columns::new() }
    }

    fn push(&mut self, at_ms: f64, ticks: &[Option<Tick>], load: &Load) {
        self.at_ms.push(at_ms);
        for (columns, tick) in self.containers.iter_mut().zip(ticks) {
            for (name, value) in columns_of(tick.as_ref()) {
                push(columns, name, value);
            }
        }
        push(&mut self.host, "cpu_percent", Some((load.cpu_percent * 10.0).round() / 10.0));
        push(&mut self.host, "memory_available_bytes", Some(number(load.memory_available_bytes)));
        push(&mut self.host, "load_1min", Some(load.load_1min));
        if self.at_ms.len() >= self.kept_max {
            self.thin();
        }
    }

    /// Drops every second sample, from the second one on.
    fn thin(&mut self) {
        self.thinned *= 2;
        halve(&mut self.at_ms);
        self.containers.iter_mut().flat_map(BTreeMap::values_mut).for_each(halve);
        self.host.values_mut().for_each(halve);
    }
}

fn push(columns: &mut Columns, name: &str, value: Option<f64>) {
    match columns.get_mut(name) {
        Some(column) => column.push(value),
        None => drop(columns.insert(name.to_owned(), vec![value])),
    }
}

fn halve<T>(column: &mut Vec<T>) {
    let mut place = 0;
    column.retain(|_| {
        place += 1;
        place % 2 == 1
    });
}

/// Returns the columns of a container's sample by name; their values are `None` where the container was down.
fn columns_of(tick: Option<&Tick>) -> [(&'static str, Option<f64>); 17] {
    let usage = tick.map(|tick| tick.usage);
    let count = |value: fn(&Usage) -> u64| usage.as_ref().map(|usage| number(value(usage)));
    let counted = |value: fn(&Usage) -> Option<u64>| usage.as_ref().and_then(value).map(number);
    [
        ("cpu_user_ms", usage.map(|usage| usage.cpu_user_ms)),
        ("cpu_system_ms", usage.map(|usage| usage.cpu_system_ms)),
        ("throttled_ms", usage.map(|usage| usage.throttled_ms)),
        ("wait_ms", usage.and_then(|usage| usage.wait_ms)),
        ("memory_bytes", tick.map(|tick| number(tick.present.memory_bytes))),
        ("memory_peak_bytes", count(|usage| usage.memory_peak_bytes)),
        ("oom_kills", count(|usage| usage.oom_kills)),
        ("read_bytes", counted(|usage| usage.read_bytes)),
        ("written_bytes", counted(|usage| usage.written_bytes)),
        ("read_ops", counted(|usage| usage.read_ops)),
        ("write_ops", counted(|usage| usage.write_ops)),
        ("received_bytes", count(|usage| usage.received_bytes)),
        ("sent_bytes", count(|usage| usage.sent_bytes)),
        ("received_packets", count(|usage| usage.received_packets)),
        ("sent_packets", count(|usage| usage.sent_packets)),
        ("dropped_packets", count(|usage| usage.dropped_packets)),
        ("processes", tick.map(|tick| number(tick.present.processes))),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "precise up to eight pebibytes")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cgroup::Present;

    const LOAD: Load = Load { cpu_percent: 12.34, memory_available_bytes: 5, load_1min: 0.5 };

    fn tick(sent_bytes: u64) -> Option<Tick> {
        Some(Tick { usage: Usage { sent_bytes, ..Usage::default() }, present: Present::default() })
    }

    #[test]
    fn a_long_run_keeps_a_bounded_number_of_looks_from_its_begin_to_its_end() {
        let mut series = Series::new(vec!["a".into()], 8);
        let mut due = 0;
        for look in 0..1000_u64 {
            if look == due {
                series.push(look as f64, &[tick(10 * look)], &LOAD);
                assert!(series.at_ms.len() < 8, "{:?}", series.at_ms);
                due = look + u64::from(series.thinned);
            }
        }
        assert!(series.at_ms.len() >= 4 && series.at_ms[0] == 0.0, "{:?}", series.at_ms);
        assert!(series.at_ms.last().is_some_and(|last| *last > 700.0), "{:?}", series.at_ms);
        let sent = &series.containers[0]["sent_bytes"];
        let expected: Vec<Option<f64>> = series.at_ms.iter().map(|at| Some(10.0 * at)).collect();
        assert_eq!(*sent, expected, "the columns stay beside each other");
        assert!(series.thinned >= 128 && series.thinned.is_power_of_two());
        assert_eq!(series.host["cpu_percent"].len(), series.at_ms.len());
    }

    #[test]
    fn a_container_that_is_down_leaves_a_gap_in_every_column() {
        let mut series = Series::new(vec!["a".into(), "b".into()], 100);
        series.push(0.0, &[tick(1), None], &LOAD);
        series.push(1.0, &[None, tick(2)], &LOAD);
        assert_eq!(series.containers[0]["sent_bytes"], [Some(1.0), None]);
        assert_eq!(series.containers[1]["sent_bytes"], [None, Some(2.0)]);
        for columns in &series.containers {
            assert!(columns.values().all(|column| column.len() == 2), "{columns:?}");
        }
    }

    #[test]
    fn looks_stand_on_a_grid_and_what_was_missed_stays_missed() {
        let period = Duration::from_millis(100);
        let check = |last_ms: u64, expected_ms: u64| {
            assert_eq!(next(Duration::from_millis(last_ms), period), Duration::from_millis(expected_ms));
        };
        check(0, 100);
        check(99, 100);
        check(101, 200);
        check(567, 600);
    }
}
