//! Whole machines: killed, stopped, frozen.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::effect::{Effect, Site};

/// How long a program may be without a sign of life before its machine counts as frozen.
const STILL_FOR: Duration = Duration::from_millis(150);

/// How long the last processes of a machine may take to be gone, and between two looks.
const END_DEADLINE: Duration = Duration::from_secs(5);
const END_POLL: Duration = Duration::from_millis(1);

/// How long a thawed machine may take to run a program.
const THAW_DEADLINE: Duration = Duration::from_secs(10);

/// A machine without processes, until it is started again.
pub struct Down {
    grace: Option<Duration>,
}

impl Down {
    pub fn kill() -> Self {
        Self { grace: None }
    }

    pub fn stop(grace: Duration) -> Self {
        Self { grace: Some(grace) }
    }
}

impl Effect for Down {
    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        Ok(format!("{} processes run in it", site.container.running_processes()))
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        match self.grace {
            None => site.lab.kill(site.container, "node.kill"),
            Some(grace) => site.lab.stop(site.container, grace, "node.stop"),
        }
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let begun = Instant::now();
        loop {
            // A program that was being started in it from the outside at that moment belongs to it for an instant.
            let left = site.container.running_processes();
            if left == 0 {
                return Ok("none of its processes is left".into());
            }
            if begun.elapsed() > END_DEADLINE {
                bail!("{left} processes of {} still run", site.name());
            }
            std::thread::sleep(END_POLL); // the kernel gives no sign when a group is empty
        }
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        site.lab.start_again(site.container)
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let output = site.exec(&["/bin/true"])?;
        Ok(format!("a program ran in it in {:.0} ms", output.duration.as_secs_f64() * 1e3))
    }

    fn starts_container(&self) -> bool {
        true
    }
}

/// A machine whose processes stand still, with their memory and connections.
pub struct Freeze;

impl Effect for Freeze {
    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        if let Some(outage) = site.container.outage() {
            return Err(outage.into());
        }
        if !site.container.runs_a_program(THAW_DEADLINE)? {
            bail!("no program runs in it");
        }
        Ok("a program runs in it".into())
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        site.lab.freeze(site.container, "node.freeze")
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        if site.container.runs_a_program(STILL_FOR)? {
            bail!("a program that was started in it ran");
        }
        Ok(format!("a program that was started in it did nothing for {} ms", STILL_FOR.as_millis()))
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        site.lab.thaw(site.container)
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        if !site.container.runs_a_program(THAW_DEADLINE)? {
            bail!("a program that was started in it did nothing for {} s", THAW_DEADLINE.as_secs());
        }
        Ok("a program runs in it again".into())
    }
}
