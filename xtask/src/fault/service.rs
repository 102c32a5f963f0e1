//! systemd units.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::effect::{Effect, Site};
use super::injection::usage;

/// How long a unit that was started may be on its way: its process may have been killed meanwhile.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// Between two looks at one on its way.
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

    /// The unit's `ActiveState`, and the number of its first process in the container, 0 without one.
    fn state(&self, site: &Site<'_>) -> anyhow::Result<(String, String)> {
        let shown = site.ask(&["systemctl", "show", "--property=ActiveState,MainPID", "--", &self.unit])?;
        let shown = String::from_utf8_lossy(&shown).into_owned();
        let value = |name: &str| {
            let value = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().to_owned()
        };
        Ok((value("ActiveState"), value("MainPID")))
    }
}

impl Effect for Stop {
    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let (state, pid) = self.state(site)?;
        if state != "active" {
            let message = format!("service.stop: the unit {} of {} is {state}, not active", self.unit, site.name());
            return Err(usage(message));
        }
        Ok(format!("it is active, process {pid}"))
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        self.begun = true;
        site.ask(&["systemctl", "stop", "--", &self.unit]).map(drop)
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let (state, pid) = self.state(site)?;
        if pid != "0" && !pid.is_empty() || !matches!(state.as_str(), "inactive" | "failed") {
            bail!("the unit is {state} and its process is {pid}");
        }
        Ok(format!("it is {state} and has no process"))
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
            let (state, pid) = self.state(site)?;
            match state.as_str() {
                "active" => return Ok(format!("it is active again, process {pid}")),
                "activating" if started.elapsed() < START_DEADLINE => std::thread::sleep(START_POLL), // systemd is asked
                _ => bail!("the unit is {state}"),
            }
        }
    }
}
