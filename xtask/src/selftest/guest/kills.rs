//! Kill sweep: engine and guard get SIGKILL at several moments of a run; afterwards nothing of the lab may be left on the host.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::order::Project;
use super::record::{Kill, Kills, Victim, one_line};
use crate::host::exec::shell::{Command, CommandError, Output};
use crate::host::inventory::Inventory;
use crate::host::patience::Deadline;

/// Scenario that is run for each kill; its labs have three machines.
const SCENARIO: &str = "three_machines";

/// Deadline for everything of a lab to be gone after a kill.
const CLEAN_DEADLINE: Deadline = Deadline::from_secs(2);

/// Deadline for one run, or for destroying its lab.
const RUN_DEADLINE: Deadline = Deadline::from_secs(60);

const POLL: Duration = Duration::from_millis(20);

/// Settings of a kill sweep.
#[derive(Debug)]
pub struct Sweep<'a> {
    pub engine: &'a Path,
    /// Project with the scenario that is run.
    pub project: &'a Project,
    /// Slot of the labs of all runs.
    pub slot: &'a str,
    /// Folder in which the engine keeps its layers.
    pub state_dir: &'a Path,
    /// True if no one else makes labs on the host; then leftovers are looked for on the whole host.
    pub has_host: bool,
    /// Number of times that each victim is killed.
    pub kills: u32,
}

impl Sweep<'_> {
    /// Runs the sweep. The moments of the kills are spread evenly over the duration of one run, and the victims alternate.
    #[must_use]
    pub fn carry_out(&self, say: &dyn Fn(&str)) -> Kills {
        let begun = Instant::now();
        if let Err(why) = self.run(RUN_DEADLINE.scaled()).and_then(|output| expect_pass(&output)) {
            say(&format!("    the run without a kill did not pass: {why}"));
            return Kills { rounds: Vec::new(), next_run_passed: false };
        }
        let run_time = begun.elapsed();
        let mut rounds = Vec::new();
        let victims = [Victim::Engine, Victim::Guard, Victim::Both];
        let count = self.kills * 3;
        for (number, victim) in (1..=count).zip(victims.into_iter().cycle()) {
            let moment = run_time * number / (count + 1);
            let left = self.round(victim, moment).unwrap_or_else(|why| vec![one_line(&why)]);
            say(&format!("    {victim:?} killed after {} ms: {} left", moment.as_millis(), left.len()));
            let after_ms = u64::try_from(moment.as_millis()).unwrap_or(u64::MAX);
            rounds.push(Kill { victim, after_ms, left });
        }
        let next = self.run(RUN_DEADLINE.scaled()).and_then(|output| expect_pass(&output));
        if let Err(why) = &next {
            say(&format!("    the run after the kills did not pass: {why}"));
        }
        Kills { rounds, next_run_passed: next.is_ok() }
    }

    fn round(&self, victim: Victim, moment: Duration) -> Result<Vec<String>, String> {
        let before = self.inventory()?;
        match victim {
            // Past its deadline a command gets SIGKILL: here the deadline is the moment of the kill.
            Victim::Engine => drop(self.run(moment)?),
            Victim::Guard => std::thread::scope(|scope| {
                let run = scope.spawn(|| self.run(RUN_DEADLINE.scaled()));
                std::thread::sleep(moment); // the moment of the kill is the test's input
                self.kill_guard();
                // The engine takes the slot back and tries the case again; its own verdict is not in question here.
                let ended = run.join().map_err(|_| "the thread of the run panicked".to_owned())??;
                if ended.timed_out { Err("the run did not end after its guard was killed".to_owned()) } else { Ok(()) }
            })?,
            Victim::Both => std::thread::scope(|scope| {
                let run = scope.spawn(|| self.run(moment));
                std::thread::sleep(moment.saturating_sub(POLL)); // the moment of the kill is the test's input
                self.kill_guard();
                run.join().map_err(|_| "the thread of the run panicked".to_owned())?.map(drop)
            })?,
        }
        let left = self.left_since(&before)?;
        if victim != Victim::Both || left.is_empty() {
            return Ok(left);
        }
        // Without guard and engine, whoever comes next takes the lab down.
        let clean =
            Command::new(self.engine).args(["clean", "--slot", self.slot]).dir("/").deadline(RUN_DEADLINE.scaled());
        clean.run().map_err(|error| error.to_string())?;
        self.left_since(&before)
    }

    /// Returns the leftovers of a run: things that were not on the host `before` and have not disappeared within the deadline.
    fn left_since(&self, before: &Inventory) -> Result<Vec<String>, String> {
        let begun = Instant::now();
        loop {
            let left = self.inventory()?.leftovers_since(before);
            if left.is_empty() || begun.elapsed() > CLEAN_DEADLINE.scaled() {
                return Ok(left);
            }
            std::thread::sleep(POLL); // the host gives no sign when something is gone
        }
    }

    fn run(&self, deadline: Duration) -> Result<Output, String> {
        let command = Command::new(self.engine)
            .arg("--root")
            .arg(&self.project.root)
            .args(["e2e", "--slot", self.slot, "--progress", "plain", "--binaries"])
            .arg(&self.project.programs)
            .arg(SCENARIO)
            .dir("/")
            .deadline(deadline);
        let null = || std::fs::File::options().write(true).open("/dev/null").map_err(|error| error.to_string());
        command.output_to_files(null()?, null()?).map_err(|error: CommandError| error.to_string())
    }

    fn inventory(&self) -> Result<Inventory, String> {
        if self.has_host {
            Inventory::take(self.state_dir).map_err(|error| format!("{error:#}"))
        } else {
            Ok(Inventory::of_slot(self.state_dir, self.slot))
        }
    }

    fn kill_guard(&self) {
        let owner = Path::new("/run/mancer-e2e").join(self.slot).join("owner.json");
        let text = std::fs::read_to_string(owner).unwrap_or_default();
        let owner: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(pid) = owner["guard_pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL); // before it began and after its end there is none
        }
    }
}

fn expect_pass(output: &Output) -> Result<(), String> {
    match *output {
        Output { timed_out: true, .. } => Err("it did not end within its deadline".to_owned()),
        Output { status: 0, .. } => Ok(()),
        Output { status, .. } => Err(format!("it ended with status {status}")),
    }
}
