//! Means of doing something to the packets of one container.

use super::contact::Contact;
use super::filter::{Filter, Rules};
use super::helper::{HELP, Helper};
use crate::fault::effect::{FaultTarget, Keeper, Lasted};
use crate::host::network::iptables::queue_problem;
use crate::host::network::tc::{self, Qdisc};
use crate::host::undo::Undo;

/// What treats the packets.
pub enum Means {
    /// Rules that stand.
    Filter(Filter),
    /// Rules that come and go.
    Contact(Contact),
    /// A process of the engine.
    Helper(Helper),
    /// A queue of the kernel at the container's port, which goes with the port when the container is started again.
    Queue { qdisc: Qdisc, undo: Vec<Undo> },
}

impl Means {
    /// Returns a queue of the kernel.
    pub fn queue(qdisc: Qdisc) -> Self {
        Self::Queue { qdisc, undo: Vec::new() }
    }

    /// Returns a line with the reason why this host does not have it; `None` when it does.
    pub fn problem(&self, rules: &Rules) -> Option<String> {
        match self {
            Self::Filter(filter) | Self::Contact(Contact { filter, .. }) => filter.problem(rules),
            Self::Helper(_) => Some(format!("no packets can be handed to a process: {}", queue_problem()?)),
            Self::Queue { qdisc, .. } => qdisc.problem(),
        }
    }

    /// Returns the help where this host does not have it.
    pub fn help(&self) -> String {
        match self {
            Self::Filter(filter) | Self::Contact(Contact { filter, .. }) => filter.help(),
            Self::Helper(_) => HELP.to_owned(),
            Self::Queue { qdisc, .. } => {
                format!("`cargo xtask setup` installs tc; of the kernel it takes `modprobe {}`", qdisc.module())
            }
        }
    }

    /// Returns the reason why it cannot be used by a fault of this name: its place is taken.
    ///
    /// # Errors
    /// When its tool cannot be asked.
    pub fn taken(&self, target: &FaultTarget<'_>, fault: &str) -> anyhow::Result<Option<String>> {
        Ok(match self {
            Self::Filter(_) | Self::Contact(_) => {
                self.exists(target)?.then(|| format!("{fault} is done to {} already", target.name()))
            }
            Self::Helper(helper) => self
                .exists(target)?
                .then(|| format!("{fault}: packets to {} are {} already", target.name(), helper.treatment())),
            Self::Queue { .. } => {
                root_kind(target)?.map(|kind| format!("{fault}: {} has {kind} at its port already", target.name()))
            }
        })
    }

    /// Tells whether it is there, or another one in its place.
    ///
    /// # Errors
    /// When its tool cannot be asked.
    pub fn exists(&self, target: &FaultTarget<'_>) -> anyhow::Result<bool> {
        match self {
            Self::Filter(filter) | Self::Contact(Contact { filter, .. }) => filter.exists(target),
            Self::Helper(helper) => helper.exists(target),
            Self::Queue { .. } => Ok(root_kind(target)?.is_some()),
        }
    }

    /// Tells whether it still treats packets.
    ///
    /// # Errors
    /// When its tool cannot be asked.
    pub fn is_at_work(&self, target: &FaultTarget<'_>) -> anyhow::Result<bool> {
        match self {
            Self::Contact(contact) => Ok(contact.is_flapping()),
            Self::Helper(helper) => helper.is_at_work(target),
            _ => self.exists(target),
        }
    }

    /// Makes it, with its undo step in the ledger first.
    ///
    /// # Errors
    /// With what its tool said.
    pub fn make(&mut self, target: &FaultTarget<'_>, rules: Rules) -> anyhow::Result<()> {
        match self {
            Self::Filter(filter) => filter.make(target, rules),
            Self::Contact(contact) => contact.start(target, rules),
            Self::Helper(helper) => helper.start(target),
            Self::Queue { qdisc, undo } => {
                let (network, port) = (target.lab.network(), target.container.machine().port());
                let step = Undo::DeleteQdisc { network: network.place()?, device: port.to_string() };
                target.note(vec![step.clone()])?;
                undo.push(step);
                qdisc.set(network, &port)
            }
        }
    }

    /// Makes anew what the start of its container has undone.
    ///
    /// # Errors
    /// With what its tool said.
    pub fn restore(&mut self, target: &FaultTarget<'_>, rules: Rules) -> anyhow::Result<()> {
        match self {
            Self::Filter(filter) if !filter.outlives_container() => filter.make_again(target, rules),
            Self::Queue { qdisc, .. } if root_kind(target)?.is_none() => {
                qdisc.set(target.lab.network(), &target.container.machine().port())
            }
            _ => Ok(()),
        }
    }

    /// Takes it back; one that was not made is fine.
    ///
    /// # Errors
    /// When it is still there.
    pub fn take_back(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        match self {
            Self::Filter(filter) => filter.take_back(target),
            Self::Contact(contact) => contact.stop(target),
            Self::Helper(helper) => helper.stop(target),
            Self::Queue { undo, .. } => target.undo(undo.clone()),
        }
    }

    /// Loss of the fault, where the process or the thread that does it has ended by itself.
    pub fn lost(&mut self) -> Option<Lasted> {
        match self {
            Self::Contact(contact) => contact.lost(),
            Self::Helper(helper) => helper.lost(),
            _ => None,
        }
    }

    /// Side that could remove it.
    pub fn keeper(&self) -> Keeper {
        match self {
            Self::Filter(filter) => filter.keeper(),
            _ => Keeper::Host,
        }
    }

    /// Tells whether a start of its container leaves it as it is.
    pub fn outlives_container(&self) -> bool {
        match self {
            Self::Filter(filter) => filter.outlives_container(),
            Self::Contact(_) | Self::Helper(_) => true,
            Self::Queue { .. } => false,
        }
    }

    /// Note on packets that were not treated while the fault lasted.
    pub fn passed(&self) -> String {
        match self {
            Self::Helper(helper) => helper.passed(),
            _ => String::new(),
        }
    }

    /// Observes that packets are missing, and that rules have dropped some meanwhile, where rules do it.
    ///
    /// # Errors
    /// Those of `observe`; when nothing was dropped.
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

    /// Returns the process, where one does it.
    pub fn helper(&self) -> Option<&Helper> {
        match self {
            Self::Helper(helper) => Some(helper),
            _ => None,
        }
    }
}

/// Kind of the queue at the container's port.
fn root_kind(target: &FaultTarget<'_>) -> anyhow::Result<Option<String>> {
    tc::root_kind(target.lab.network(), &target.container.machine().port())
}
