//! Evidence that a session collects while it runs: failures of the scenario, ends and reboots of machines, a stopped lab.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::blame::Evidence;
use super::ending::{Seen, machine_ended};
use super::state::Session;
use crate::host::cgroup::Tree;
use crate::host::machine::kmsg::KernelWatch;
use crate::lab::Container;
use crate::manifest::Expected;
use crate::record::{Event, milliseconds};

/// Names of findings with which a scenario declares that it expects the end or a reboot of a machine.
const MACHINE_ENDED: &str = "machine_ended";
const REBOOTED: &str = "rebooted";

impl Session {
    pub fn violation(&self) -> Option<String> {
        self.state().seen.violation.clone()
    }

    pub fn break_off(&self, violation: &str) {
        self.file_failure(|seen| {
            seen.violation.get_or_insert_with(|| violation.to_owned());
        });
    }

    /// Files a failure of the scenario as evidence, after the ends of machines that came before it; `note` adds the failure to what was
    /// seen.
    pub(super) fn file_failure(&self, note: impl FnOnce(&mut Seen)) {
        self.notice_ends();
        self.evidence.push(Evidence::Scenario);
        note(&mut self.state().seen);
    }

    /// Files as evidence the ends of machines that were not filed before, and a stopped part of the lab. If a process 1 is gone, first
    /// waits until LXC has noticed that.
    pub(super) fn notice_ends(&self) {
        self.lab.containers().iter().for_each(Container::notice_end);
        self.file_ends();
        self.file_standstill();
    }

    /// Files as evidence, once, that a part of the lab was stopped from outside: a later failure proves nothing about the product.
    fn file_standstill(&self) {
        let Some(standstill) = self.lab.standstill() else { return };
        if !self.stood_still.swap(true, Ordering::SeqCst) {
            self.evidence.push(Evidence::Host(standstill.to_string()));
        }
    }

    /// Records reboots that the engine did not request, and starts injecting the faults of rebooted machines again.
    pub fn file_reboots(&self) {
        for container in self.lab.containers() {
            let (name, reboots) = (container.machine().name.clone(), container.reboots());
            let mut state = self.state();
            let known = state.reboots.entry(name.clone()).or_default();
            if reboots <= *known {
                continue;
            }
            *known = reboots;
            let (faults, rebooted) = (Arc::clone(&self.faults), container.clone());
            let thread = std::thread::Builder::new().name(format!("restore {name}"));
            match thread.spawn(move || faults.restore_after_reboot(&rebooted)) {
                Ok(thread) => state.restoring.push(thread),
                Err(error) => self.evidence.push(Evidence::Host(format!("starting a thread of the engine: {error}"))),
            }
            drop(state);
            let expected = self.expects(REBOOTED, &name);
            let case = self.spec.case.clone();
            self.recorder.record(Event::MachineRebooted { case, container: name, reboots, expected });
        }
    }

    /// Records the scenario's state when it has to be killed at its deadline: its stacks, running requests, and containers that faults keep
    /// down.
    pub fn note_deadline(&self, scenario: &Tree) {
        self.file_standstill();
        let outages = self.lab.containers().iter().filter_map(|container| {
            let (outage, lasting) = container.outage_with_time()?;
            Some(format!("{outage} for {:.1} s", lasting.as_secs_f64()))
        });
        let stacks = self.take_stacks(scenario);
        let doing: Vec<String> = stacks.into_iter().chain(self.under_way.told()).chain(outages).collect();
        self.state().seen.doing = (!doing.is_empty()).then(|| doing.join("\n"));
    }

    /// Tells whether `scenario.toml` lists this finding about a container as expected.
    fn expects(&self, finding: &str, container: &str) -> bool {
        let covers = |expected: &crate::manifest::Expected| expected.covers(finding, Some(container), container);
        self.spec.expects.iter().any(covers)
    }

    /// Waits until the faults of rebooted machines have been injected again.
    pub(super) fn end_restoring(&self) {
        let threads = std::mem::take(&mut self.state().restoring);
        for thread in threads {
            if thread.join().is_err() {
                self.evidence.push(Evidence::Host("the engine panicked while it restored a fault".to_owned()));
            }
        }
    }

    /// Files as evidence the ends of machines that LXC has noticed and that are not filed yet.
    pub fn file_ends(&self) {
        for container in self.lab.containers().iter().filter(|container| container.is_dead()) {
            let Some(end) = container.ending() else { continue }; // a fault has just begun to start it again
            let mut state = self.state();
            if state.ended.contains(&end.container) {
                continue;
            }
            state.ended.push(end.container.clone());
            let expected = self.expects(MACHINE_ENDED, &end.container);
            let event = machine_ended(&self.spec.case, &end, expected);
            if !expected {
                self.evidence.push(Evidence::MachineEnded(Box::new(end)));
            }
            drop(state);
            self.recorder.record(event);
        }
    }

    /// Looks for findings in the lab and records them. They do not change the verdict.
    pub(super) fn record_findings(&self) {
        let said = self.kernel.as_ref().map(KernelWatch::so_far).unwrap_or_default();
        for finding in self.lab.findings(&said) {
            let kind = finding.kind.name();
            let covers = |expected: &Expected| expected.covers(kind, finding.container.as_deref(), &finding.about);
            let expected = self.spec.expects.iter().any(covers);
            self.recorder.record(Event::Finding {
                case: self.spec.case.clone(),
                kind: kind.to_owned(),
                container: finding.container,
                about: finding.about,
                detail: finding.detail,
                happened_at_ms: finding.age.map(|age| milliseconds(self.recorder.elapsed().saturating_sub(age))),
                expected,
            });
        }
    }
}
