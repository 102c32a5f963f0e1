//! Link that fails and recovers in turns, by rules on the bridge that a thread makes and removes.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::bail;

use super::filter::{Filter, Rules};
use crate::fault::effect::{FaultTarget, Keeper, Lasted};
use crate::host::network::netns::NetworkNamespace;
use crate::host::network::nft::Table;
use crate::host::syntax::{Nft, Text};

const FAMILY: &str = "bridge";

/// Rules on the bridge that cut the link: in turns, a thread makes them for the time `down` and removes them for the time `up`.
pub struct Contact {
    pub filter: Filter,
    down: Duration,
    up: Duration,
    flapper: Option<Flapper>,
}

impl Contact {
    /// Prepares the cuts of the link; [`Self::start`] starts them.
    pub fn new(filter: Filter, down: Duration, up: Duration) -> Self {
        Self { filter, down, up, flapper: None }
    }

    /// Writes the filter's undo step to the ledger, and starts the thread that cuts and mends the link.
    pub fn start(&mut self, target: &FaultTarget<'_>, rules: Rules) -> anyhow::Result<()> {
        self.filter.note(target)?;
        let network = NetworkNamespace::open(&target.lab.network().path())?;
        let (table, rules, down, up) = (self.filter.name(target), rules.nft, self.down, self.up);
        self.flapper = Some(Flapper::start(Work { network, table, rules, down, up })?);
        Ok(())
    }

    /// Ends the thread, and removes the rules.
    pub fn stop(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        if let Some(flapper) = self.flapper.take() {
            let _ = flapper.stop(); // one that had ended before was told by then
        }
        self.filter.take_back(target)
    }

    pub fn is_flapping(&self) -> bool {
        self.flapper.is_some()
    }

    /// Returns the result that the effect was lost, where the thread has ended by itself; `None` where it still runs.
    pub fn lost(&mut self) -> Option<Lasted> {
        let ended = self.flapper.take_if(|flapper| flapper.thread.is_finished())?;
        let why =
            ended.stop().err().map_or_else(String::new, |error| format!(", because cutting it had failed: {error:#}"));
        Some(Lasted::lost(Keeper::Host, format!("the link was no longer cut in turns{why}")))
    }
}

/// Handle of the thread that cuts and mends the link. When the handle is dropped, the thread ends and leaves the link uncut.
struct Flapper {
    stop: Sender<()>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Flapper {
    fn start(work: Work) -> anyhow::Result<Self> {
        let (stop, stopped) = channel();
        let until_told = move |phase: Duration| stopped.recv_timeout(phase) == Err(RecvTimeoutError::Timeout);
        let thread = std::thread::Builder::new().name("flap".into()).spawn(move || work.run(until_told))?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread; the error is the reason why the thread had ended by itself before.
    fn stop(self) -> anyhow::Result<()> {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|_| bail!("the thread that cuts the link panicked"))
    }
}

/// Inputs of the thread that cuts and mends the link.
struct Work {
    network: NetworkNamespace,
    table: String,
    rules: Text<Nft>,
    down: Duration,
    up: Duration,
}

impl Work {
    /// Cuts and mends the link until told to end. `goes_on` waits for the length of a phase, and returns false where the thread was told to
    /// end.
    fn run(&self, goes_on: impl Fn(Duration) -> bool) -> anyhow::Result<()> {
        let table = Table { family: FAMILY, name: &self.table };
        loop {
            table.make(&self.network, &self.rules)?;
            let ends = !goes_on(self.down);
            table.delete(&self.network)?;
            if ends || !goes_on(self.up) {
                return Ok(());
            }
        }
    }
}
