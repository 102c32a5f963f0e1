//! Single processes.

use std::time::Duration;

use anyhow::bail;

use super::effect::{Effect, Site};
use super::injection::usage;
use crate::host::process::Running;

/// How long a killed process may take to be gone.
const END_DEADLINE: Duration = Duration::from_secs(5);

/// Processes killed, for whoever supervises them to start again.
pub struct Kill {
    command: String,
    killed: Vec<Running>,
}

impl Kill {
    pub fn new(command: &str) -> Self {
        Self { command: command.to_owned(), killed: Vec::new() }
    }
}

impl Effect for Kill {
    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        if self.command.is_empty() {
            return Err(usage("process.kill: `command` is empty: name a piece of the command line"));
        }
        if let Some(outage) = site.container.outage() {
            return Err(outage.into());
        }
        self.killed = site.container.processes_of(&self.command);
        if self.killed.is_empty() {
            let message = format!("process.kill: no process of {} has {:?} in its command", site.name(), self.command);
            return Err(usage(message));
        }
        Ok(format!("{} with this command run", counted(self.killed.len())))
    }

    fn inject(&mut self, _site: &Site<'_>) -> anyhow::Result<()> {
        for process in &self.killed {
            process.kill()?;
        }
        Ok(())
    }

    fn bites(&mut self, _site: &Site<'_>) -> anyhow::Result<String> {
        for process in &self.killed {
            if !process.wait_for_end(END_DEADLINE) {
                bail!("process {} still runs", process.pid);
            }
        }
        let count = self.killed.len();
        Ok(format!("{} {} gone", counted(count), if count == 1 { "is" } else { "are" }))
    }

    fn heal(&mut self, _site: &Site<'_>) -> anyhow::Result<()> {
        Ok(())
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        Ok(format!("{} with this command run now", counted(site.container.processes_of(&self.command).len())))
    }
}

fn counted(processes: usize) -> String {
    format!("{processes} {}", if processes == 1 { "process" } else { "processes" })
}
