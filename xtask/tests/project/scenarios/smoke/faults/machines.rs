//! Faults of machines and processes: killed, stopped, frozen, paused, restarted again and again.

use e2e::{Container, Fault, Lab, RequestError, Result, check};

use crate::{PATIENCE, reads, serve};

pub fn machines(lab: &Lab, a: &Container, b: &Container) -> Result {
    b.write("/root/kept", "on its disk")?;
    for fault in [Fault::NodeKill, Fault::NodeStop { grace_ms: 1000 }] {
        let down = b.inject(fault)?;
        check!(unavailable(b)?, "no program runs in a machine that is down");
        check!(!reads(a)?, "what is down serves nothing");
        let again = b.inject(Fault::NodeKill).err().map(|error| error.to_string()).unwrap_or_default();
        check!(again.contains("b is down"), "what is down cannot be killed");
        down.heal()?;
        check!(b.get("/root/kept")? == b"on its disk", "it comes back with its disk");
        serve(b)?;
        lab.eventually("a reads from b again", PATIENCE, || reads(a))?;
    }
    let frozen = b.inject(Fault::NodeFreeze)?;
    check!(unavailable(b)?, "no program runs in a machine that is frozen");
    check!(!reads(a)?, "what is frozen serves nothing");
    frozen.heal()?;
    check!(reads(a)?, "what was thawed goes on where it was");
    Ok(())
}

fn unavailable(container: &Container) -> Result<bool> {
    match container.exec(["true"]) {
        Ok(_) => Ok(false),
        Err(error) => match error.downcast_ref::<RequestError>() {
            Some(request) => Ok(request.is_unavailable()),
            None => Err(error),
        },
    }
}

pub fn processes(lab: &Lab, b: &Container) -> Result {
    b.sh("sleep 1234 & sleep 1234 &")?.success()?;
    let killed = b.inject(Fault::ProcessKill { command: "sleep 1234".into() })?;
    check!(killed.evidence() == "2 processes are gone");
    killed.heal()?;
    lab.eventually("no process is left", PATIENCE, || Ok(!has_process(b, "sleep 1234")?))?;

    b.sh("(n=0; while :; do n=$((n + 1)); echo $n > /tmp/count; sleep 0.02; done) >/dev/null 2>&1 & : counter")?
        .success()?;
    lab.eventually("it counts", PATIENCE, || counts_on(b))?;
    let paused = b.inject(Fault::ProcessPause { command: "counter".into() })?;
    check!(!counts_on(b)?, "what is paused counts no more");
    let again = refusal(b, Fault::ProcessPause { command: "counter".into() });
    check!(again.contains("is stopped already"), "what is paused cannot be paused");
    paused.heal()?;
    lab.eventually("it counts again", PATIENCE, || counts_on(b))?;
    b.inject(Fault::ProcessKill { command: "counter".into() })?.heal()?;
    Ok(())
}

/// Tells whether a program of the machine sees another process with this text in its command line.
pub fn has_process(b: &Container, command: &str) -> Result<bool> {
    let listed = b.exec(["ps", "-o", "args"])?.success()?;
    Ok(listed.stdout_text()?.lines().any(|line| line.contains(command)))
}

/// Tells whether the counter changes between two readings.
fn counts_on(b: &Container) -> Result<bool> {
    Ok(b.sh("a=$(cat /tmp/count); sleep 0.5; test \"$a\" != \"$(cat /tmp/count)\"")?.status == 0)
}

pub fn refusal(b: &Container, fault: Fault) -> String {
    b.inject(fault).err().map(|error| error.to_string()).unwrap_or_default()
}

pub fn restarts(lab: &Lab, a: &Container, b: &Container) -> Result {
    let storm = b.inject(Fault::NodeRestartStorm { times: 2, up_ms: 50 })?;
    check!(unavailable(b)?, "it is down at last");
    storm.heal()?;
    check!(b.get("/root/kept")? == b"on its disk", "it comes back with its disk");
    serve(b)?;
    lab.eventually("a reads from b again", PATIENCE, || reads(a))?;
    let message = refusal(b, Fault::NodeRestartStorm { times: 21, up_ms: 50 });
    check!(message.contains("a whole number from 1 to 20"));
    Ok(())
}

/// Starts a program that is started again whenever it ends.
pub fn supervise(b: &Container) -> Result {
    b.sh("cp /bin/busybox /root/tail; (while :; do /root/tail -f /dev/null; sleep 0.05; done) >/dev/null 2>&1 &")?;
    Ok(())
}

pub fn programs(lab: &Lab, b: &Container) -> Result {
    supervise(b)?;
    lab.eventually("it runs", PATIENCE, || Ok(b.exec(["pidof", "tail"])?.status == 0))?;
    let program = || Fault::ProcessCrashloop { program: "/root/tail".into() };
    let crashing = b.inject(program())?;
    check!(b.exec(["/root/tail", "-n", "1", "/root/kept"])?.status == 1, "it ends at once");
    // Started again every 50 ms, it may be there for a moment; one that ran would stay.
    lab.eventually("it does not run", PATIENCE, || Ok(b.exec(["pidof", "tail"])?.status != 0))?;
    check!(refusal(b, program()).contains("crashes already"));
    check!(b.sh("ls -A /root | grep -c cover")?.stdout() == b"0\n", "what stands in its place has no name");
    let down = b.inject(Fault::NodeKill)?;
    down.heal()?;
    check!(b.exec(["/root/tail", "-n", "1", "/root/kept"])?.status == 1, "a restart does not heal it");
    supervise_only(b)?;
    crashing.heal()?;
    lab.eventually("it runs again", PATIENCE, || Ok(b.exec(["pidof", "tail"])?.status == 0))?;
    check!(b.exec(["/root/tail", "-n", "1", "/root/kept"])?.stdout() == b"on its disk");
    check!(b.sh("ls -A /root | grep -c e2e")?.stdout() == b"0\n", "nothing of it is left");
    check!(
        refusal(b, Fault::ProcessCrashloop { program: "/bin/sh".into() })
            .contains("is also the program of the container's shell")
    );
    check!(refusal(b, Fault::ProcessCrashloop { program: "/no/program".into() }).contains("cannot be found"));
    Ok(())
}

fn supervise_only(b: &Container) -> Result {
    b.sh("(while :; do /root/tail -f /dev/null; sleep 0.05; done) >/dev/null 2>&1 &")?.success()?;
    Ok(())
}
