//! Check of the containers' resource usage against the limits in `scenario.toml`.

use e2e_contract::Check;

use super::state::Session;
use crate::host::patience;
use crate::manifest::{LimitKind, UsageLimit};
use crate::perf::Totals;
use crate::record::Event;

impl Session {
    /// Records the check of each limit; returns the description of the first limit that was exceeded.
    pub(super) fn check_limits(&self) -> Option<String> {
        let mut exceeded = None;
        for limit in &self.spec.limits {
            let used = self.meters.totals(&limit.container).and_then(|totals| used(limit.kind, &totals));
            let Some(used) = used else {
                let message = format!(
                    "{} of {} is limited at {}:{}, but the limit was not checked: the container was never up, or this \
                     host's kernel does not count this usage",
                    limit.kind.name(),
                    limit.container,
                    self.spec.manifest,
                    limit.line
                );
                self.recorder.record(Event::Warning { message });
                continue;
            };
            let check = check(&on_this_machine(limit, patience::patience().factor), used, &self.spec.manifest);
            if !check.passed && exceeded.is_none() {
                exceeded = Some(format!("{} [{}] at {}:{}", check.condition, check.values, check.file, check.line));
            }
            self.recorder.record(Event::Check { case: self.spec.case.clone(), check });
        }
        exceeded
    }
}

/// Multiplies a limit of processor time by `factor`, this host's factor of deadlines: the same work takes more processor time on a slow
/// host.
fn on_this_machine(limit: &UsageLimit, factor: f64) -> UsageLimit {
    let most = if limit.kind == LimitKind::CpuSeconds { limit.most * factor.max(1.0) } else { limit.most };
    UsageLimit { most, ..limit.clone() }
}

/// Returns the usage in the unit of the limit's kind; `None` if the kernel does not count it.
#[expect(clippy::cast_precision_loss, reason = "precise up to eight pebibytes")]
fn used(kind: LimitKind, totals: &Totals) -> Option<f64> {
    let usage = &totals.usage;
    match kind {
        LimitKind::CpuSeconds => Some(totals.cpu_seconds),
        LimitKind::MemoryPeakBytes => Some(usage.memory_peak_bytes as f64),
        LimitKind::ReadBytes => usage.read_bytes.map(|bytes| bytes as f64),
        LimitKind::WrittenBytes => usage.written_bytes.map(|bytes| bytes as f64),
        LimitKind::ReceivedBytes => Some(usage.received_bytes as f64),
        LimitKind::SentBytes => Some(usage.sent_bytes as f64),
    }
}

fn check(limit: &UsageLimit, used: f64, manifest: &str) -> Check {
    let UsageLimit { container, kind, most, line } = limit;
    let name = kind.name();
    let shown = |value: f64| if *kind == LimitKind::CpuSeconds { format!("{value:.3}") } else { format!("{value:.0}") };
    Check {
        passed: used <= *most,
        condition: format!("{name} of {container} <= {}", shown(*most)),
        values: format!("{name} = {}", shown(used)),
        message: None,
        file: manifest.to_owned(),
        line: *line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Usage;

    #[test]
    fn a_failed_limit_names_container_bound_and_value() {
        let limit = |kind, most| UsageLimit { container: "db".into(), kind, most, line: 12 };
        let failed = check(&limit(LimitKind::WrittenBytes, 1024.0), 1025.0, "a/b/scenario.toml");
        assert!(!failed.passed);
        assert_eq!(failed.condition, "written_bytes of db <= 1024");
        assert_eq!(failed.values, "written_bytes = 1025");
        assert_eq!((failed.file.as_str(), failed.line), ("a/b/scenario.toml", 12));
        assert!(check(&limit(LimitKind::WrittenBytes, 1024.0), 1024.0, "a/b").passed, "as much as is allowed");
        let seconds = check(&limit(LimitKind::CpuSeconds, 1.5), 1.6, "a/b");
        assert_eq!((seconds.passed, seconds.values.as_str()), (false, "cpu_seconds = 1.600"));
    }

    #[test]
    fn processor_time_alone_grows_with_the_patience_of_a_slow_machine() {
        let most = |kind, factor| {
            on_this_machine(&UsageLimit { container: "db".into(), kind, most: 30.0, line: 1 }, factor).most
        };
        assert!((most(LimitKind::CpuSeconds, 6.2) - 186.0).abs() < 1e-9);
        assert!((most(LimitKind::CpuSeconds, 0.5) - 30.0).abs() < 1e-9);
        assert!((most(LimitKind::SentBytes, 6.2) - 30.0).abs() < 1e-9);
    }

    #[test]
    fn each_limit_is_held_against_its_own_counter() {
        let usage = Usage {
            memory_peak_bytes: 1,
            read_bytes: Some(2),
            written_bytes: None,
            received_bytes: 4,
            sent_bytes: 5,
            ..Usage::default()
        };
        let totals = Totals { usage, cpu_seconds: 6.0 };
        let kinds = [
            (LimitKind::MemoryPeakBytes, Some(1.0)),
            (LimitKind::ReadBytes, Some(2.0)),
            (LimitKind::WrittenBytes, None),
            (LimitKind::ReceivedBytes, Some(4.0)),
            (LimitKind::SentBytes, Some(5.0)),
            (LimitKind::CpuSeconds, Some(6.0)),
        ];
        for (kind, expected) in kinds {
            assert_eq!(used(kind, &totals), expected, "{kind:?}");
        }
    }
}
