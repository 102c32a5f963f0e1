//! Fault that replaces a program by one that ends at once with an error, however often it is started.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::effect::{Effect, FaultTarget, Keeper, Lasted, usage};
use super::process::counted;
use crate::host::disk::mount;
use crate::host::disk::mountns;
use crate::host::exec::process::Running;
use crate::host::patience::Deadline;
use crate::host::syntax::{Shell, ShellWord, Text, compose};
use crate::manifest::Init;

/// Prefix of the names of files that the fault makes beside the program, for as long as it needs them.
const OWN_PREFIX: &str = ".e2e-crashloop-";

/// Exit status of the program that takes the original's place.
const STATUS: i32 = 1;

/// Number of first bytes of a file by which the program and its replacement are told apart.
const HEAD: &str = "64";

/// Deadline for killed processes to end.
const END_DEADLINE: Deadline = Deadline::from_secs(10);

/// Deadline for a supervisor to start a program again.
const SUPERVISOR_DEADLINE: Deadline = Deadline::from_secs(5);

/// Minimum time after which a program that has not ended counts as running, and the same minimum as a multiple of the time that the
/// replacement took to end.
const RUNS_AFTER: Deadline = Deadline::from_millis(50);
const RUNS_AFTER_TIMES: u32 = 3;

/// Interval between two checks of the processes.
const POLL: Duration = Duration::from_millis(2);

/// Fault that puts a file that ends at once with an error into a program's place.
pub struct Crashloop {
    program: String,
    found: Option<Found>,
    killed: usize,
    crash_took: Duration,
    is_supervised: bool,
}

/// Program to replace, as it was before the fault.
struct Found {
    /// Path of the program with all links followed.
    path: PathBuf,
    /// Device and inode of the program's file.
    file: (u64, u64),
    /// First bytes of the program's file, as a program in the container reads them.
    head: Vec<u8>,
    /// systemd units that ran the program.
    units: Vec<String>,
    /// Number of restarts of `units` by systemd before the injection.
    restarts: u64,
}

impl Crashloop {
    pub fn new(program: &str) -> Self {
        Self { program: program.to_owned(), found: None, killed: 0, crash_took: Duration::ZERO, is_supervised: false }
    }

    fn found(&self) -> anyhow::Result<&Found> {
        self.found.as_ref().context("the state before the fault was not observed")
    }

    fn bad(&self, what: &str) -> anyhow::Error {
        usage(format!("process.crashloop: {} {what}", self.program))
    }

    /// Finds the program's path, device and inode. Refuses the shell and the first process's program, without which the machine runs
    /// nothing.
    fn locate(&self, target: &FaultTarget<'_>) -> anyhow::Result<(PathBuf, (u64, u64))> {
        let init = target.container.init_pid()?;
        let program = PathBuf::from(&self.program);
        let looked = mountns::inside(init, || {
            let identity = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
            let path = std::fs::canonicalize(&program)?;
            let metadata = std::fs::metadata(&path)?;
            let is_program = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
            Ok((path.clone(), identity(&path)?, is_program, identity(Path::new("/bin/sh")).ok()))
        });
        let (path, file, is_program, shell) =
            looked.map_err(|error| self.bad(&format!("cannot be found in {}: {error:#}", target.name())))?;
        if !is_program {
            return Err(self.bad("is not an executable file"));
        }
        let first = std::fs::metadata(format!("/proc/{init}/exe")).map(|found| (found.dev(), found.ino())).ok();
        if [shell, first].contains(&Some(file)) {
            return Err(self.bad(&format!(
                "is {}, which is also the program of the container's shell or first process",
                path.display()
            )));
        }
        Ok((path, file))
    }

    fn running(&self, target: &FaultTarget<'_>) -> anyhow::Result<Vec<Running>> {
        let found = self.found()?;
        let mut running = target.container.processes_running(found.file, &self.program);
        running.extend(target.container.processes_running(found.file, &found.path.to_string_lossy()));
        running.sort_by_key(|process| process.pid);
        running.dedup();
        Ok(running)
    }

    fn head(&self, target: &FaultTarget<'_>) -> anyhow::Result<Vec<u8>> {
        target.ask(&["/bin/sh", "-c", r#"head -c "$2" "$1""#, "read", &self.program, HEAD])
    }

    fn counter(path: &Path) -> PathBuf {
        own_file(path, "starts")
    }

    /// Returns the number of starts that the replacement has counted; starts by a user who cannot write the counter's file are missing.
    fn starts(&self, target: &FaultTarget<'_>) -> anyhow::Result<u64> {
        let counter = Self::counter(&self.found()?.path);
        mountns::inside(target.container.init_pid()?, || {
            Ok(std::fs::metadata(counter).map_or(0, |counter| counter.len()))
        })
    }

    /// Returns the number of times that systemd has restarted these units.
    fn restarts(target: &FaultTarget<'_>, units: &[String]) -> anyhow::Result<u64> {
        if units.is_empty() {
            return Ok(0);
        }
        let words = ["systemctl", "show", "--property=NRestarts", "--value", "--"].into_iter();
        let shown = target.ask(&words.chain(units.iter().map(String::as_str)).collect::<Vec<_>>())?;
        Ok(String::from_utf8_lossy(&shown).lines().filter_map(|line| line.trim().parse::<u64>().ok()).sum())
    }

    /// Puts the replacement into the program's place, and kills the processes that run the program.
    fn cover(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let running = self.running(target)?;
        let path = self.found()?.path.clone();
        mountns::inside(target.container.init_pid()?, || cover(&path))?;
        self.killed = running.len();
        for process in &running {
            process.kill()?;
        }
        match running.iter().find(|process| !process.wait_for_end(END_DEADLINE.scaled())) {
            None => Ok(()),
            Some(process) => bail!("process {} still runs, though it was killed", process.pid),
        }
    }

    fn is_covered(&self, target: &FaultTarget<'_>, path: &Path) -> anyhow::Result<bool> {
        let roots = mount::roots_at(target.container.init_pid()?, path)?;
        Ok(roots.iter().any(|root| root.contains(OWN_PREFIX)))
    }
}

impl Effect for Crashloop {
    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if !self.program.starts_with('/') {
            return Err(self.bad("is no absolute path of a program's file"));
        }
        if let Some(outage) = target.container.outage() {
            return Err(outage.into());
        }
        let (path, file) = self.locate(target)?;
        if self.is_covered(target, &path)? {
            return Err(self.bad(&format!("of {} crashes already: heal that fault first", target.name())));
        }
        let head = self.head(target)?;
        self.found = Some(Found { path, file, head, units: Vec::new(), restarts: 0 });
        let running = self.running(target)?;
        if matches!(target.container.machine().template.init, Init::Systemd) {
            let mut units: Vec<String> = running.iter().filter_map(Running::systemd_unit).collect();
            units.sort();
            units.dedup();
            let restarts = Self::restarts(target, &units)?;
            self.found = self.found.take().map(|found| Found { units, restarts, ..found });
        }
        Ok(format!("{} of the program run", counted(running.len())))
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.cover(target)
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let output = target.exec_within(&[&self.program], END_DEADLINE.scaled())?;
        if output.timed_out || output.status != STATUS {
            bail!(
                "when it was started, the program {}, where the fault makes it end with status {STATUS}",
                output.failure().unwrap_or_else(|| "ended with status 0".to_owned())
            );
        }
        self.crash_took = output.duration;
        let seen =
            format!("started, the program ended with status {STATUS} in {:.0} ms", output.duration.as_secs_f64() * 1e3);
        if self.killed == 0 {
            return Ok(format!("{seen}; no process ran the program before"));
        }
        // One start was ours.
        let (begun, found) = (Instant::now(), self.found()?);
        loop {
            let by_file = self.starts(target)?.saturating_sub(1);
            let by_systemd = Self::restarts(target, &found.units)?.saturating_sub(found.restarts);
            let times = by_file.max(by_systemd);
            let killed = format!(
                "{} that ran the program {} killed",
                counted(self.killed),
                if self.killed == 1 { "was" } else { "were" }
            );
            if times > 0 {
                self.is_supervised = true;
                return match self.running(target)?.iter().find(|process| !process.wait_for_end(END_DEADLINE.scaled())) {
                    Some(process) => bail!("process {} still runs the original program", process.pid),
                    None => Ok(format!("{killed}, and the program was started again {times} times since; {seen}")),
                };
            }
            if begun.elapsed() > SUPERVISOR_DEADLINE.scaled() {
                return Ok(format!("{killed}, and nothing has started the program again; {seen}"));
            }
            std::thread::sleep(POLL); // until its supervisor has noticed
        }
    }

    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        let output = target.exec_within(&[&self.program], END_DEADLINE.scaled())?;
        if !output.timed_out && output.status == STATUS {
            let took = output.duration.as_secs_f64() * 1e3;
            return Ok(Lasted::until_now(format!("started, the program ended with status {STATUS} in {took:.0} ms")));
        }
        let failure = output.failure().unwrap_or_else(|| "ended with status 0".to_owned());
        let proof = Err(anyhow::anyhow!(
            "when it was started, the program {failure}, where the fault makes it end with status {STATUS}"
        ));
        Lasted::proved(proof, Keeper::Container, || self.is_covered(target, &self.found()?.path))
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let down = target.container.outage().is_some_and(|outage| !outage.frozen);
        let Some(found) = self.found.as_ref().filter(|_| !down) else { return Ok(()) };
        let init = target.container.init_pid()?;
        let (path, covered) = (found.path.clone(), self.is_covered(target, &found.path)?);
        mountns::inside(init, || {
            if covered {
                mount::detach(&path)?;
            }
            match std::fs::remove_file(Self::counter(&path)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            }
        })
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Ok(format!("{outage}; the program's file is the original again"));
        }
        if self.head(target)? != self.found()?.head {
            bail!("a program in {} still does not read the original file of the program", target.name());
        }
        let begun = Instant::now();
        while self.is_supervised && begun.elapsed() < SUPERVISOR_DEADLINE.scaled() {
            let running = self.running(target)?;
            let runs_after = RUNS_AFTER.scaled().max(self.crash_took * RUNS_AFTER_TIMES);
            if running.iter().any(|process| !process.wait_for_end(runs_after)) {
                return Ok(format!("{} run the program again", counted(running.len())));
            }
            std::thread::sleep(POLL); // until its supervisor has started it again
        }
        Ok(format!(
            "a program in {} reads the original file of the program; no process runs the program yet",
            target.name()
        ))
    }

    fn restore(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let path = self.found()?.path.clone();
        if self.is_covered(target, &path)? { Ok(()) } else { self.cover(target) }
    }
}

fn own_file(program: &Path, what: &str) -> PathBuf {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    program.with_file_name(format!("{OWN_PREFIX}{what}-{name}"))
}

/// Returns the replacement's script. It counts its starts in a file that every user may write.
fn script(program: &Path) -> anyhow::Result<Text<Shell>> {
    let counter = ShellWord::path(&own_file(program, "starts"))?;
    Ok(compose!(
        Shell,
        "#!/bin/sh\n{{ echo >> {counter}; }} 2>/dev/null\nexit {status}\n",
        counter = counter,
        status = STATUS,
    ))
}

/// Mounts the replacement over the program, in the caller's mount namespace. The replacement's file may be removed from its folder
/// afterwards.
fn cover(program: &Path) -> anyhow::Result<()> {
    let make = |path: &Path, mode: u32, text: &str| -> std::io::Result<()> {
        let _ = std::fs::remove_file(path); // of a fault that was broken off
        let mut file = std::fs::File::options().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))
    };
    let (cover, counter) = (own_file(program, "cover"), own_file(program, "starts"));
    let context = || format!("writing beside {}", program.display());
    make(&counter, 0o666, "").with_context(context)?;
    make(&cover, 0o755, &script(program)?).with_context(context)?;
    let bound = mount::bind(&cover, program);
    std::fs::remove_file(&cover).with_context(context)?;
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_its_place_is_a_script_beside_it() {
        let text = script(Path::new("/opt/a b/run")).unwrap();
        assert!(text.starts_with("#!/bin/sh\n"), "{text}");
        assert!(text.contains("echo >> '/opt/a b/.e2e-crashloop-starts-run'"), "{text}");
        assert_eq!(own_file(Path::new("/bin/x"), "cover"), Path::new("/bin/.e2e-crashloop-cover-x"));
    }
}
