//! Ways in which a fault treats the packets of one container: rules, a thread, a process, a queueing discipline.

use super::contact::Contact;
use super::filter::{Filter, Rules};
use super::helper::{HELP, Helper};
use crate::fault::effect::{FaultTarget, Keeper, Lasted};
use crate::host::network::iptables::queue_program;
use crate::host::network::tc::{self, Qdisc};
use crate::host::undo::Undo;

/// Packet treatment of a fault: what drops, delays or changes the packets of a container.
pub enum Means {
    /// Permanent rules of a packet filter.
    Filter(Filter),
    /// Rules that a thread makes and removes in turns.
    Contact(Contact),
    /// Packet helper, a process of the engine.
    Helper(Helper),
    /// Queueing discipline of the kernel at the container's port, which ends with the port when the container is started again.
    Queue { qdisc: Qdisc, undo: Vec<Undo> },
}

impl Means {
    /// Returns the packet treatment by a queueing discipline.
    pub fn queue(qdisc: Qdisc) -> Self {
        Self::Queue { qdisc, undo: Vec::new() }
    }

    /// Reason why this host cannot do the packet treatment, in one line; `None` if it can.
    pub fn problem(&self, rules: &Rules) -> Option<String> {
        match self {
            Self::Filter(filter) | Self::Contact(Contact { filter, .. }) => filter.problem(rules),
            Self::Helper(_) => {
                Some(format!("this host cannot hand packets to a process (NFQUEUE): {}", queue_program().err()?))
            }
            Self::Queue { qdisc, .. } => qdisc.problem(),
        }
    }

    /// Help for a host that cannot do the packet treatment.
    pub fn help(&self) -> String {
        match self {
            Self::Filter(filter) | Self::Contact(Contact { filter, .. }) => filter.help(),
            Self::Helper(_) => HELP.to_owned(),
            Self::Queue { qdisc, .. } => {
                format!("`cargo xtask setup` installs tc; for the kernel, `modprobe {}`", qdisc.module())
            }
        }
    }

    /// Reason why a fault of this name cannot use the packet treatment now, because another fault uses what it needs; `None` if it can.
    pub fn taken(&self, target: &FaultTarget<'_>, fault: &str) -> anyhow::Result<Option<String>> {
        Ok(match self {
            Self::Filter(_) | Self::Contact(_) => {
                self.exists(target)?.then(|| format!("{fault} acts on {} already", target.name()))
            }
            Self::Helper(helper) => self.exists(target)?.then(|| {
                format!("{fault}: packets to {} are {} by another fault already", target.name(), helper.treatment())
            }),
            Self::Queue { .. } => root_kind(target)?.map(|kind| {
                format!(
                    "{fault}: the port of {} has the queueing discipline {kind} of another fault already",
                    target.name()
                )
            }),
        })
    }

    /// Tells whether the packet treatment is set up, or another that uses the same queue or port.
    pub fn exists(&self, target: &FaultTarget<'_>) -> anyhow::Result<bool> {
        match self {
            Self::Filter(filter) | Self::Contact(Contact { filter, .. }) => filter.exists(target),
            Self::Helper(helper) => helper.exists(target),
            Self::Queue { .. } => Ok(root_kind(target)?.is_some()),
        }
    }

    /// Tells whether the packet treatment is still in effect.
    pub fn is_at_work(&self, target: &FaultTarget<'_>) -> anyhow::Result<bool> {
        match self {
            Self::Contact(contact) => Ok(contact.is_flapping()),
            Self::Helper(helper) => helper.is_at_work(target),
            _ => self.exists(target),
        }
    }

    /// Sets the packet treatment up, with its undo step in the ledger first.
    pub fn make(&mut self, target: &FaultTarget<'_>, rules: Rules) -> anyhow::Result<()> {
        match self {
            Self::Filter(filter) => filter.make(target, rules),
            Self::Contact(contact) => contact.start(target, rules),
            Self::Helper(helper) => helper.start(target),
            Self::Queue { qdisc, undo } => {
                let (network, port) = (target.lab.network(), target.container.machine().port());
                let step = Undo::DeleteQdisc { network: network.place()?, device: port.to_string() };
                target.lab.guard().note(vec![step.clone()])?;
                undo.push(step);
                qdisc.set(network, &port)
            }
        }
    }

    /// Sets the packet treatment up again if a restart of the container has undone it.
    pub fn restore(&mut self, target: &FaultTarget<'_>, rules: Rules) -> anyhow::Result<()> {
        match self {
            Self::Filter(filter) if !filter.outlives_container() => filter.make_again(target, rules),
            Self::Queue { qdisc, .. } if root_kind(target)?.is_none() => {
                qdisc.set(target.lab.network(), &target.container.machine().port())
            }
            _ => Ok(()),
        }
    }

    /// Removes the packet treatment (rules, thread, process or queueing discipline); does nothing if it was not set up.
    pub fn take_back(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        match self {
            Self::Filter(filter) => filter.take_back(target),
            Self::Contact(contact) => contact.stop(target),
            Self::Helper(helper) => helper.stop(target),
            Self::Queue { undo, .. } => target.lab.guard().undo(undo.clone()),
        }
    }

    /// Result that the effect was lost, where its process or thread has ended by itself; else `None`.
    pub fn lost(&mut self) -> Option<Lasted> {
        match self {
            Self::Contact(contact) => contact.lost(),
            Self::Helper(helper) => helper.lost(),
            _ => None,
        }
    }

    /// Place from which the packet treatment could be removed: the host or the container.
    pub fn keeper(&self) -> Keeper {
        match self {
            Self::Filter(filter) => filter.keeper(),
            _ => Keeper::Host,
        }
    }

    /// Tells whether the packet treatment survives a restart of the container.
    pub fn outlives_container(&self) -> bool {
        match self {
            Self::Filter(filter) => filter.outlives_container(),
            Self::Contact(_) | Self::Helper(_) => true,
            Self::Queue { .. } => false,
        }
    }

    /// Note for the evidence on packets that passed untreated while the fault lasted; empty where there were none.
    pub fn passed(&self) -> String {
        match self {
            Self::Helper(helper) => helper.passed(),
            _ => String::new(),
        }
    }

    /// Observes that packets are missing, and, where rules drop them, that the rules have dropped some meanwhile.
    ///
    /// # Errors
    /// Also when the rules dropped no packet.
    pub fn drops(
        &self,
        target: &FaultTarget<'_>,
        observe: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<String> {
        match self {
            Self::Filter(filter) => filter.drops(target, observe),
            _ => observe(),
        }
    }

    /// Returns the packet helper, if the packet treatment is one.
    pub fn helper(&self) -> Option<&Helper> {
        match self {
            Self::Helper(helper) => Some(helper),
            _ => None,
        }
    }
}

/// Returns the kind of the queueing discipline at the container's port.
fn root_kind(target: &FaultTarget<'_>) -> anyhow::Result<Option<String>> {
    tc::root_kind(target.lab.network(), &target.container.machine().port())
}
