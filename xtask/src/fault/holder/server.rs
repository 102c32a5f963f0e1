//! The process that holds the faults of a kept lab.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use e2e_contract::Fault;

use super::super::active::{ActiveFaults, RecoveryTime};
use super::protocol::{Ask, LiveFault, RebootSeen, Refusal, Reply, file, socket};
use crate::error::Error;
use crate::guard::{Guard, Slot};
use crate::lab::{Lab, LiveLab};

/// Interval between two checks whether a container has rebooted, by the file that the hook of its network card writes.
const REBOOT_POLL: Duration = Duration::from_millis(100);

/// Holds the faults of the lab in a slot until the guard takes the lab down. Only the hidden verb calls this.
pub fn serve(slot: &Slot) -> anyhow::Result<()> {
    let guard = Arc::new(Guard::attach(slot.clone())?);
    let live = LiveLab::in_slot(slot).with_context(|| format!("there is no lab in slot {}", slot.name()))?;
    let lab = Arc::new(Lab::attach(&guard, &live)?);
    let (active, on, reboots) = (ActiveFaults::new(lab), Mutex::default(), Mutex::default());
    let holder = Arc::new(Holder { slot: slot.clone(), active, on, reboots });
    holder.write(&[])?;
    let watching = Arc::clone(&holder);
    std::thread::Builder::new().name("reboots".into()).spawn(move || {
        loop {
            watching.restore_after_reboots();
            std::thread::sleep(REBOOT_POLL); // as long as the lab stays
        }
    })?;
    let path = socket(slot);
    let _ = std::fs::remove_file(&path); // of one that was killed: whoever started this one looked
    let listener = UnixListener::bind(&path).with_context(|| format!("making the socket {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    for connection in listener.incoming() {
        let (connection, holder) = (connection?, Arc::clone(&holder));
        std::thread::Builder::new().name("fault".into()).spawn(move || holder.answer(connection))?;
    }
    Ok(())
}

struct Holder {
    slot: Slot,
    active: ActiveFaults,
    on: Mutex<Vec<LiveFault>>,
    /// Number of reboots of each container that were handled; locked while faults are being restored.
    reboots: Mutex<HashMap<String, u64>>,
}

impl Holder {
    fn answer(&self, mut connection: UnixStream) {
        let mut line = String::new();
        let Ok(reader) = connection.try_clone() else { return };
        if BufReader::new(reader).read_line(&mut line).is_err() {
            return;
        }
        let ask = serde_json::from_str(&line)
            .context("the request is from another build of the engine than the process that holds the faults");
        let reply = ask.and_then(|ask| self.carry_out(ask)).unwrap_or_else(|error| Reply::Refused(Refusal::of(&error)));
        let Ok(mut line) = serde_json::to_vec(&reply) else { return };
        line.push(b'\n');
        let _ = connection.write_all(&line); // whoever asked may have gone: what was done is in the file
    }

    fn carry_out(&self, ask: Ask) -> anyhow::Result<Reply> {
        match ask {
            Ask::Inject { container, fault } => self.inject(&container, fault),
            Ask::Heal { fault } => self.heal(fault),
        }
    }

    /// Restores the faults of containers that have rebooted without a request, and records the result.
    fn restore_after_reboots(&self) {
        let mut known = self.reboots.lock().unwrap_or_else(PoisonError::into_inner);
        for container in self.active.lab().containers() {
            let (name, reboots) = (&container.machine().name, container.reboots());
            if known.insert(name.clone(), reboots).unwrap_or_default() >= reboots {
                continue;
            }
            let lab = self.active.lab();
            let restored = lab.wait_until_it_runs(container).and_then(|()| self.active.restore_on(name, None));
            let seen = RebootSeen { at: now(), problem: restored.err().map(|error| format!("{error:#}")) };
            let note = |on: &mut Vec<LiveFault>| {
                on.iter_mut().filter(|live| live.container == *name).for_each(|live| live.reboot = Some(seen.clone()));
            };
            let _ = self.change(note); // a slot's folder that cannot be written has no lab any more
        }
    }

    fn inject(&self, container: &str, description: Fault) -> anyhow::Result<Reply> {
        let found = self.active.lab().container(container);
        let target = found.ok_or_else(|| Error::Usage(format!("there is no container {container:?} in this lab")))?;
        target.fail_if_dead()?;
        let (fault, observed) = self.active.inject(target, &description)?;
        let since = now();
        let container = container.to_owned();
        let (before, evidence) = (observed.before, observed.evidence);
        let live = LiveFault { fault, container, description, since, before, evidence, reboot: None };
        let noted = self.change(|on| on.push(live.clone()));
        noted.with_context(|| format!("fault {fault} is active, but could not be recorded"))?;
        Ok(Reply::Injected(live))
    }

    fn heal(&self, fault: u64) -> anyhow::Result<Reply> {
        self.restore_after_reboots(); // of a reboot a moment ago: what it has undone is done again before it is healed
        let evidence = self.active.heal(fault, &|_, _| (), RecoveryTime::Probes, &|| false)?.told();
        self.change(|on| on.retain(|live| live.fault != fault))?;
        Ok(Reply::Healed { evidence })
    }

    fn change(&self, change: impl FnOnce(&mut Vec<LiveFault>)) -> anyhow::Result<()> {
        let mut on = self.on.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut on);
        self.write(&on)
    }

    /// Writes the file of active faults by one rename: a reader finds the old faults or the new ones.
    fn write(&self, on: &[LiveFault]) -> anyhow::Result<()> {
        let path = file(&self.slot);
        let new = self.slot.write("faults.json.new", &serde_json::to_vec(on)?)?;
        std::fs::rename(&new, &path).with_context(|| format!("writing {}", path.display()))
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}
