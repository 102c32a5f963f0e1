//! Packet helper: the process to which packets to a container are handed, to be delayed, held or changed.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::netqueue::{self, QueueState};
use super::peer::ms;
use crate::fault::effect::{FaultTarget, Keeper, Lasted};
use crate::guard::{Process, Spawn};
use crate::host::cgroup::Tree;
use crate::host::exec::process::Running;
use crate::host::network::iptables::{QueueRules, Stage, queue_rules};
use crate::host::patience::{self, Deadline};
use crate::host::undo::Undo;
use crate::lab::BRIDGE;

/// Deadline for the helper to read its queue, or to end.
const DEADLINE: Deadline = Deadline::from_secs(10);

/// Interval between two checks whether the helper reads its queue.
const POLL: Duration = Duration::from_millis(2);

/// Help for a host where packets cannot be handed to a process.
pub const HELP: &str = "`cargo xtask setup --optional` installs iptables; for the kernel, `modprobe -a br_netfilter \
                        xt_physdev xt_NFQUEUE`";

/// Packet helper of one container. Where its rules or its process are missing, packets pass.
pub struct Helper {
    /// Name of the treatment, which follows the container's name and a dot in the helper's name; no container's name has a dot.
    kind: &'static str,
    /// Options of the helper's command line with their values.
    numbers: Vec<(&'static str, u64)>,
    stage: Stage,
    process: Option<Process>,
    /// Number of packets that passed untreated because the queue's buffer was full.
    passed: u64,
    undo: Vec<Undo>,
}

impl Helper {
    /// Returns a helper that holds packets back, at the first of two stages.
    pub fn that_holds(kind: &'static str, numbers: &[(&'static str, u64)]) -> Self {
        Self::at(Stage::First, kind, numbers)
    }

    /// Returns a helper that changes packets, at the second of two stages, after any delay.
    pub fn that_changes(kind: &'static str, numbers: &[(&'static str, u64)]) -> Self {
        Self::at(Stage::Second, kind, numbers)
    }

    fn at(stage: Stage, kind: &'static str, numbers: &[(&'static str, u64)]) -> Self {
        Self { kind, numbers: numbers.to_vec(), stage, process: None, passed: 0, undo: Vec::new() }
    }

    /// Phrase for the treatment of packets at the helper's stage.
    pub fn treatment(&self) -> &'static str {
        match self.stage {
            Stage::First => "delayed or stalled",
            Stage::Second => "changed",
        }
    }

    /// Returns the number of the packet queue, one for each container and stage: only one fault at a time can use a stage.
    fn queue(&self, target: &FaultTarget<'_>) -> u16 {
        self.stage.queue(target.container.machine().octet)
    }

    /// Tells whether rules hand the container's packets to a packet helper, to this one or to another with the same queue.
    pub fn exists(&self, target: &FaultTarget<'_>) -> anyhow::Result<bool> {
        Ok(!queue_rules(target.lab.network(), self.queue(target))?.is_empty())
    }

    /// Tells whether the helper's process runs and packets are handed to it.
    pub fn is_at_work(&self, target: &FaultTarget<'_>) -> anyhow::Result<bool> {
        let runs = self.process.as_ref().is_some_and(|process| process.exited().is_none());
        Ok(runs && self.exists(target)?)
    }

    /// Starts the process, waits until it reads its queue, and hands it the packets.
    pub fn start(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let (network, machine, queue) = (target.lab.network(), target.container.machine(), self.queue(target));
        let undo = vec![
            Undo::DeleteQueueRules { network: network.place()?, queue },
            Undo::KillCgroup { name: self.cgroup(target) },
        ];
        target.lab.guard().note(undo.clone())?;
        self.undo = undo;
        // By its process: the file may have been built anew meanwhile.
        let engine = format!("/proc/{}/exe", std::process::id());
        let namespace = network.path().display().to_string();
        let mut argv: Vec<String> = vec![engine, "netqueue".into(), "--namespace".into(), namespace];
        argv.extend(["--queue".into(), queue.to_string(), self.kind.to_owned()]);
        argv.extend(self.numbers.iter().flat_map(|(option, number)| [(*option).to_owned(), number.to_string()]));
        let log = machine.log_dir().join(format!("{}.log", self.kind));
        let spawn = Spawn {
            name: self.process_name(target),
            argv,
            environment: vec![patience::variable()],
            log: log.clone(),
            filtered: None,
        };
        let process = target.lab.guard().spawn(spawn)?;
        self.wait_until_it_reads(target, &process, &log)?;
        self.process = Some(process);
        let (port, address) = (machine.port(), machine.address());
        QueueRules { queue, stage: self.stage, bridge: BRIDGE, port: &port, address }.insert(network)
    }

    fn wait_until_it_reads(&self, target: &FaultTarget<'_>, process: &Process, log: &Path) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.state(target)?.is_none() {
            let said = || std::fs::read_to_string(log).unwrap_or_default();
            if let Some(end) = process.exited() {
                bail!("the packet helper {end}: {}", said().trim());
            }
            if begun.elapsed() > DEADLINE.scaled() {
                bail!("the packet helper has not read its queue within {}: {}", ms(DEADLINE.scaled()), said().trim());
            }
            std::thread::sleep(POLL); // the kernel gives no sign of a new reader
        }
        Ok(())
    }

    /// Returns the kernel's state of the helper's queue; `None` while no process reads it.
    pub fn state(&self, target: &FaultTarget<'_>) -> anyhow::Result<Option<QueueState>> {
        netqueue::state(target.lab.network(), self.queue(target))
    }

    /// Stops handing packets to the process, and ends it; packets that the process holds go on.
    pub fn stop(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        // The rules first: what the helper then still holds goes on when it is told to end.
        let Some((first, rest)) = self.undo.split_first() else { return Ok(()) };
        target.lab.guard().undo(vec![first.clone()])?;
        if self.process.take().is_some() {
            self.passed = self.state(target)?.map_or(0, |state| state.passed);
        }
        for process in Running::find(&Tree::named(&self.cgroup(target)), "netqueue") {
            process.tell_to_end()?;
            let _ = process.wait_for_end(DEADLINE.scaled()); // the next step kills it
        }
        target.lab.guard().undo(rest.to_vec())
    }

    /// Result that the effect was lost, where the helper's process has ended by itself; else `None`.
    pub fn lost(&self) -> Option<Lasted> {
        let end = self.process.as_ref()?.exited()?;
        let instead =
            format!("the process that treats the packets {end} by itself: packets have passed untreated since then");
        Some(Lasted::lost(Keeper::Host, instead))
    }

    /// Note for the evidence on packets that passed untreated while the fault lasted; empty where there were none.
    pub fn passed(&self) -> String {
        match self.passed {
            0 => String::new(),
            passed => format!("; {passed} packets passed untreated, because the buffer of their queue was full"),
        }
    }

    fn process_name(&self, target: &FaultTarget<'_>) -> String {
        format!("{}.{}", target.name(), self.kind)
    }

    fn cgroup(&self, target: &FaultTarget<'_>) -> String {
        format!("{}/{}", target.lab.guard().slot().cgroup(), self.process_name(target))
    }
}
