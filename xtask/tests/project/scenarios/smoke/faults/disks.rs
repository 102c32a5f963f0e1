//! Faults of files, volumes, and the system calls on them.

use std::time::Duration;

use anyhow::Context as _;
use e2e::{Container, Fault, Lab, Result, check};

use crate::{PATIENCE, restart, serve};

pub fn files(b: &Container) -> Result {
    let full = b.inject(Fault::DiskFull { path: "/data/x".into(), free_bytes: 0 })?;
    let written = b.sh("echo more > /data/more")?;
    check!(written.status != 0, "nothing more can be written");
    full.heal()?;
    b.sh("echo more > /data/more")?.success()?;

    b.write("/data/file", "0123456789")?;
    let flipped = b.inject(Fault::FileBitflip { path: "/data/file".into(), offset: 3, bit: 0 })?;
    check!(b.get("/data/file")? == b"0122456789");
    flipped.heal()?;
    check!(b.get("/data/file")? == b"0123456789");
    let cut = b.inject(Fault::FileTruncate { path: "/data/file".into(), size_bytes: 4 })?;
    check!(b.get("/data/file")? == b"0123");
    b.write("/data/file", "repaired by somebody")?;
    cut.heal()?;
    check!(b.get("/data/file")? == b"repaired by somebody", "what was repaired is left alone");
    Ok(())
}

/// Tells whether a line can be written to a file and synced to the disk.
fn writes(container: &Container, path: &str) -> Result<bool> {
    Ok(container.sh(format!("echo more | dd of={path} conv=fsync"))?.status == 0)
}

/// Ends the programs whose command line contains this text: busybox, as Debian builds it, has no `pkill`.
fn end(container: &Container, command: &str) -> Result {
    container.inject(Fault::ProcessKill { command: command.into() })?.heal()?;
    Ok(())
}

pub fn disks(lab: &Lab, b: &Container, c: &Container) -> Result {
    let path = || "/data".to_owned();
    for container in [b, c] {
        let crowded = container.inject(Fault::DiskInodes { path: path(), free_inodes: 2 })?;
        let made = container.sh("cd /data; touch one; touch two; touch three; ls | wc -l")?;
        check!(made.stderr().windows(13).any(|piece| piece == b"No space left"), "the third file is one too many");
        check!(writes(container, "/data/one")?, "what is there can grow");
        crowded.heal()?;
        container.sh("touch /data/three && rm /data/one /data/two /data/three")?.success()?;

        let readonly = container.inject(Fault::DiskReadonly { path: path() })?;
        check!(!writes(container, "/data/more")?);
        restart(container)?;
        check!(!writes(container, "/data/more")?, "it is read-only after a restart too");
        readonly.heal()?;
        check!(writes(container, "/data/more")?);

        container.sh("exec sleep 1235 > /data/held &")?.success()?;
        let busy = container.inject(Fault::DiskReadonly { path: path() }).err();
        let busy = busy.map(|error| error.to_string()).unwrap_or_default();
        check!(
            busy.contains("(sleep, file /data/held) has a file of the volume open for writing"),
            "who is in the way is named"
        );
        end(container, "sleep 1235")?;
    }

    let slow = c.inject(Fault::DiskSlow { path: path(), kilobytes_per_second: 500 })?;
    let write = "dd if=/dev/zero of=/data/slow bs=4096 count=100 conv=fsync";
    check!(c.sh(write)?.success()?.duration >= Duration::from_millis(500), "400 kB take 800 ms");
    restart(c)?;
    check!(c.sh(write)?.success()?.duration >= Duration::from_millis(500), "and after a restart too");
    slow.heal()?;
    lab.eventually("the disk is fast again", PATIENCE, || {
        Ok(c.sh(write)?.success()?.duration < Duration::from_millis(500))
    })?;

    for fault in [Fault::DiskFsError { path: path() }, Fault::DiskDead { path: path() }] {
        c.sh("echo kept > /data/kept; sync")?.success()?;
        // A writer that holds the file open all the time, and says what came of each write.
        c.sh("(while sleep 0.02; do echo line >&3 && sync -d /data/held && echo good || echo bad; done) \
              3> /data/held > /tmp/held 2>&1 &")?
            .success()?;
        // And one that sees whether the folder below the disk is ever there instead of it. It looks without a pause, and
        // what is looked at so often is known without the disk.
        c.sh("(while :; do [ -e /data/kept ] || echo bare; done) > /tmp/bare 2>&1 &")?.success()?;
        let broken = c.inject(fault.clone())?;
        check!(!writes(c, "/data/more")?);
        lab.eventually("who holds a file open cannot write", PATIENCE, || {
            Ok(c.sh("tail -n 1 /tmp/held | grep -q bad")?.status == 0)
        })?;
        broken.heal()?;
        check!(c.get("/data/kept")? == b"kept\n", "what was on the disk is there");
        check!(writes(c, "/data/more")?);
        end(c, "/data/held")?;
        end(c, "/tmp/bare")?;
        check!(c.get("/tmp/bare")?.is_empty(), "a disk that is mended is never gone");

        let broken = c.inject(fault)?;
        restart(c)?;
        check!(!writes(c, "/data/more")?, "a restart mends no disk");
        broken.heal()?;
        check!(c.get("/data/kept")? == b"kept\n");
        check!(writes(c, "/data/more")?);
    }
    Ok(())
}

/// Checks faults of system calls with a program that repeatedly writes a file to the disk, and records the result and the time.
pub fn system_calls(lab: &Lab, b: &Container) -> Result {
    let command = || "of=/tmp/synced".to_owned();
    let call = || "fsync".to_owned();
    b.sh("while sleep 0.02; do
              if dd if=/dev/zero of=/tmp/synced bs=1 count=1 conv=fsync; then echo good; else echo bad; fi > /tmp/came
          done 2> /dev/null &")?
        .success()?;
    let came = |what: &'static str| {
        lab.eventually(what, PATIENCE, || Ok(b.sh(format!("grep -q {what} /tmp/came"))?.status == 0))
    };
    came("good")?;
    let failing = b.inject(Fault::IoError { command: command(), call: call(), error: "EIO".into() })?;
    came("bad")?;
    let again = b.inject(Fault::IoDelay { command: command(), call: call(), delay_ms: 100 }).err();
    let again = again.map(|error| error.to_string()).unwrap_or_default();
    check!(again.contains("is traced already, by process") && again.contains("(strace)"), "who traces it is named");
    failing.heal()?;
    came("good")?;

    let delayed = b.inject(Fault::IoDelay { command: command(), call: call(), delay_ms: 1000 })?;
    check!(round_seconds(b)? >= 0.9, "each round takes a second");
    delayed.heal()?;
    lab.eventually("the rounds are short again", PATIENCE, || Ok(round_seconds(b)? < 0.9))?;

    let failing = b.inject(Fault::IoError { command: command(), call: call(), error: "ENOSPC".into() })?;
    restart(b)?;
    failing.heal()?;
    serve(b)
}

/// Returns the duration of a round of the program: it opens the file at the round's begin and writes to it at the end, so that two changes
/// of the file span at least one round, even if they are seen late. The kernel's time stamps may be 10 ms old.
fn round_seconds(b: &Container) -> Result<f64> {
    let next = "new=$old; while [ \"$new\" = \"$old\" ]; do new=$(stat -c %y /tmp/came); done; old=$new";
    let said = b.sh(format!("old=; {next}; {next}; echo $old; {next}; {next}; echo $old"))?.success()?;
    // 2026-01-31 23:59:59.123456789: the time of day is enough for something that takes a second.
    let seconds = |line: &str| -> Result<f64> {
        let time = line.split_whitespace().nth(1).with_context(|| format!("no time in {line:?}"))?;
        time.split(':').try_fold(0.0, |sum, part| Ok(sum * 60.0 + part.parse::<f64>()?))
    };
    let times = said.stdout_text()?.lines().map(seconds).collect::<Result<Vec<_>>>()?;
    Ok((times[1] - times[0]).rem_euclid(86_400.0))
}
