//! systemd units.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::effect::usage;
use super::effect::{Effect, Keeper, Lasted, Site};
use super::unit::Unit;
use crate::host::patience::Deadline;

/// Deadline for a unit that is being started: its process may have been killed meanwhile.
const START_DEADLINE: Deadline = Deadline::from_secs(10);

/// Interval between two looks at a unit on its way.
const START_POLL: Duration = Duration::from_millis(50);

/// A unit that is stopped until it is started again.
pub struct Stop {
    unit: String,
    begun: bool,
}

impl Stop {
    pub fn new(unit: &str) -> Self {
        Self { unit: unit.to_owned(), begun: false }
    }
}

impl Effect for Stop {
    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let Unit { state, process } = Unit::look(site, &self.unit)?;
        if state != "active" {
            let message = format!("service.stop: the unit {} of {} is {state}, not active", self.unit, site.name());
            return Err(usage(message));
        }
        Ok(format!("it is active{}", named(process)))
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        self.begun = true;
        site.ask(&["systemctl", "stop", "--", &self.unit]).map(drop)
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let Unit { state, process } = Unit::look(site, &self.unit)?;
        if process.is_some() || !matches!(state.as_str(), "inactive" | "failed") {
            bail!("the unit is {state}{}", named(process));
        }
        Ok(format!("it is {state} and has no process"))
    }

    fn lasts(&mut self, site: &Site<'_>) -> anyhow::Result<Lasted> {
        let Unit { state, process } = Unit::look(site, &self.unit)?;
        Ok(match (state.as_str(), process) {
            ("inactive" | "failed", None) => Lasted::until_now(format!("it is {state} and has no process")),
            _ => Lasted::lost(Keeper::Container, format!("the unit is {state}{}", named(process))),
        })
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        if self.begun {
            site.ask(&["systemctl", "start", "--", &self.unit])?;
        }
        Ok(())
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let started = Instant::now();
        loop {
            let Unit { state, process } = Unit::look(site, &self.unit)?;
            match state.as_str() {
                "active" => return Ok(format!("it is active again{}", named(process))),
                "activating" if started.elapsed() < START_DEADLINE.scaled() => std::thread::sleep(START_POLL), // systemd is asked
                _ => bail!("the unit is {state}"),
            }
        }
    }
}

/// Names a unit's process as the end of a sentence; empty where the unit, such as postgresql.service, has none of its own.
fn named(process: Option<u32>) -> String {
    process.map_or_else(String::new, |pid| format!(", process {pid}"))
}
