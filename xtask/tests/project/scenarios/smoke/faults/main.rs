//! Every fault that a machine of busybox can have, and what a scenario sees of it.

use std::process::ExitCode;
use std::time::Duration;

use e2e::{Container, Fault, Lab, Port, RequestError, Result, check, failing_with};

/// Longer than any of these answers takes when nothing is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> Result {
    let (a, b) = (lab.container("a")?, lab.container("b")?);
    lab.known_defect("selftest-1/known", failing_with("1 + 1 == 3"), || {
        check!(1 + 1 == 3);
        Ok(())
    })?;
    serve(&b)?;
    if lab.case() == "left_to_the_engine" {
        return leave_broken(&a, &b);
    }
    lab.step("machines", || machines(lab, &a, &b))?;
    lab.step("processes", || processes(lab, &b))?;
    lab.step("files and volumes", || files(&b))?;
    lab.step("network", || network(lab, &a, &b))?;
    lab.step("restarts", || restarts(lab, &a, &b))?;
    lab.step("programs", || programs(lab, &b))?;
    lab.step("memory", || memory(lab, &b))?;
    lab.step("processors", || processors(lab, &b))?;
    lab.step("counts", || counts(lab, &b))?;
    lab.step("what outlives a restart", || outlives(lab, &b))?;
    lab.step("what is healed in a machine that runs nothing", || healed_blindly(&b))?;
    lab.step("bad parameters", || refused(&b))
}

/// A page on b that a can read.
fn serve(b: &Container) -> Result {
    b.write("/tmp/pages/page.txt", "a page of b\n")?;
    b.exec(["httpd", "-p", "80", "-h", "/tmp/pages"])?.success()?;
    b.wait_for(Port(80))?;
    Ok(())
}

fn reads(a: &Container) -> Result<bool> {
    let read = a.command(["wget", "-q", "-O", "-", "http://b/page.txt"]).deadline(Duration::from_secs(1)).run()?;
    Ok(read.status == 0 && read.stdout() == b"a page of b\n")
}

fn machines(lab: &Lab, a: &Container, b: &Container) -> Result {
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

fn processes(lab: &Lab, b: &Container) -> Result {
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
    check!(again.contains("stands still already"), "what is paused cannot be paused");
    paused.heal()?;
    lab.eventually("it counts again", PATIENCE, || counts_on(b))?;
    b.inject(Fault::ProcessKill { command: "counter".into() })?.heal()?;
    Ok(())
}

/// Whether a program of the machine sees a process with this in its command line, other than itself.
fn has_process(b: &Container, command: &str) -> Result<bool> {
    let listed = b.exec(["ps", "-o", "args"])?.success()?;
    Ok(listed.stdout_text()?.lines().any(|line| line.contains(command)))
}

/// Whether the counter moves while one looks at it twice.
fn counts_on(b: &Container) -> Result<bool> {
    Ok(b.sh("a=$(cat /tmp/count); sleep 0.5; test \"$a\" != \"$(cat /tmp/count)\"")?.status == 0)
}

fn refusal(b: &Container, fault: Fault) -> String {
    b.inject(fault).err().map(|error| error.to_string()).unwrap_or_default()
}

fn restarts(lab: &Lab, a: &Container, b: &Container) -> Result {
    let storm = b.inject(Fault::NodeRestartStorm { times: 2, up_ms: 50 })?;
    check!(unavailable(b)?, "it is down at last");
    storm.heal()?;
    check!(b.get("/root/kept")? == b"on its disk", "it comes back with its disk");
    serve(b)?;
    lab.eventually("a reads from b again", PATIENCE, || reads(a))?;
    let message = refusal(b, Fault::NodeRestartStorm { times: 21, up_ms: 50 });
    check!(message.contains("1 to 20 times"));
    Ok(())
}

/// A program that somebody starts again whenever it ends.
fn supervise(b: &Container) -> Result {
    b.sh("cp /bin/busybox /root/tail; (while :; do /root/tail -f /dev/null; sleep 0.05; done) >/dev/null 2>&1 &")?;
    Ok(())
}

fn programs(lab: &Lab, b: &Container) -> Result {
    supervise(b)?;
    lab.eventually("it runs", PATIENCE, || Ok(b.exec(["pidof", "tail"])?.status == 0))?;
    let program = || Fault::ProcessCrashloop { program: "/root/tail".into() };
    let crashing = b.inject(program())?;
    check!(b.exec(["/root/tail", "-n", "1", "/root/kept"])?.status == 1, "it ends at once");
    check!(b.exec(["pidof", "tail"])?.status != 0, "it does not run");
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
    check!(refusal(b, Fault::ProcessCrashloop { program: "/bin/sh".into() }).contains("is its shell"));
    check!(refusal(b, Fault::ProcessCrashloop { program: "/no/program".into() }).contains("cannot be found"));
    Ok(())
}

fn supervise_only(b: &Container) -> Result {
    b.sh("(while :; do /root/tail -f /dev/null; sleep 0.05; done) >/dev/null 2>&1 &")?.success()?;
    Ok(())
}

/// Whether a program can take so many MiB; the kernel kills it rather than another when it cannot.
fn takes(b: &Container, mebibytes: u32) -> Result<bool> {
    let script =
        format!("echo 1000 > /proc/self/oom_score_adj; exec dd if=/dev/zero of=/dev/null bs={mebibytes}M count=1");
    Ok(b.sh(&script)?.status == 0)
}

fn memory(lab: &Lab, b: &Container) -> Result {
    check!(takes(b, 40)?);
    let limit = b.inject(Fault::MemoryLimit { bytes: 32 << 20 })?;
    check!(!takes(b, 40)? && takes(b, 8)?, "it may use less");
    check!(refusal(b, Fault::MemoryLimit { bytes: 16 << 20 }).contains("heal that first"));
    limit.heal()?;
    check!(takes(b, 40)?);
    check!(refusal(b, Fault::MemoryLimit { bytes: 1 }).contains("bytes that cannot be taken from it"));

    let pressure = b.inject(Fault::MemoryPressure { bytes: 32 << 20 })?;
    check!(!takes(b, 40)? && takes(b, 8)?, "another holds it");
    check!(refusal(b, Fault::MemoryPressure { bytes: 1 << 20 }).contains("heal that first"));
    pressure.heal()?;
    check!(takes(b, 40)?);

    let victim = "echo 1000 > /proc/self/oom_score_adj; (head -c 8000000 /dev/zero; exec sleep 4321) | tail -c 8000000";
    b.sh(format!("({victim}) >/dev/null 2>&1 & : victim"))?.success()?;
    let lives = || Ok(b.sh("ps -o args | grep -q '^tail -c 8000000'")?.status == 0);
    lab.eventually("it runs", PATIENCE, lives)?;
    let oom = b.inject(Fault::MemoryOom)?;
    check!(!lives()?, "the kernel has killed whom it likes least");
    oom.heal()?;
    b.inject(Fault::ProcessKill { command: "sleep 4321".into() })?.heal()?;
    check!(takes(b, 40)?);
    Ok(())
}

/// Processor time that a busy program gets within a second.
fn busy_seconds(b: &Container) -> Result<f64> {
    let said = b.sh("timeout -s KILL 1 sh -c 'while :; do :; done'; times")?;
    let line = said.stdout_text()?.lines().last().unwrap_or_default().to_owned();
    // 0m0.490s 0m0.010s: of the children, in the program and in the kernel
    let seconds = |word: &str| word.trim_end_matches('s').split('m').nth(1).and_then(|text| text.parse::<f64>().ok());
    Ok(line.split_whitespace().filter_map(seconds).sum())
}

fn processors(lab: &Lab, b: &Container) -> Result {
    let quota = b.inject(Fault::CpuQuota { percent: 10 })?;
    check!(busy_seconds(b)? < 0.25, "it gets a tenth of a processor");
    check!(refusal(b, Fault::CpuQuota { percent: 5 }).contains("heal that first"));
    quota.heal()?;
    lab.eventually("it gets more", PATIENCE, || Ok(busy_seconds(b)? > 0.25))?;
    check!(refusal(b, Fault::CpuQuota { percent: 60 }).contains("may use 50 % now"));

    let all = processors_of(b)?;
    if all > 1 {
        let pin = b.inject(Fault::CpuPin { cpus: "0".into() })?;
        check!(processors_of(b)? == 1);
        check!(refusal(b, Fault::CpuPin { cpus: "0".into() }).contains("heal that first"));
        pin.heal()?;
        check!(processors_of(b)? == all);
        check!(refusal(b, Fault::CpuPin { cpus: "0-4000".into() }).contains("name some of them"));
    }

    let burn = b.inject(Fault::CpuBurn { processes: 2 })?;
    check!(has_process(b, "while :; do :; done")?);
    check!(refusal(b, Fault::CpuBurn { processes: 1 }).contains("heal that first"));
    burn.heal()?;
    check!(!has_process(b, "while :; do :; done")?);
    Ok(())
}

/// Whether so many processes can be started side by side.
fn starts(b: &Container, processes: u32) -> Result<bool> {
    let script = format!("n=0; while [ $n -lt {processes} ]; do sleep 0.2 & n=$((n + 1)); done; wait");
    Ok(b.sh(&script)?.status == 0)
}

fn counts(lab: &Lab, b: &Container) -> Result {
    let cap = b.inject(Fault::PidsCap { free: 8 })?;
    check!(!starts(b, 9)?, "there is no room for so many");
    lab.eventually("they are gone", PATIENCE, || Ok(b.exec(["true"])?.status == 0))?;
    check!(refusal(b, Fault::PidsCap { free: 1 }).contains("heal that first"));
    cap.heal()?;
    check!(starts(b, 9)?);
    b.inject(Fault::PidsCap { free: 0 })?.heal()?;

    let opener = "while :; do if true </dev/null; then echo yes; else echo no; fi; sleep 0.02; done";
    b.write("/tmp/opener", opener)?;
    b.sh("sh -c \"$(cat /tmp/opener)\" opener > /tmp/opened 2>/dev/null &")?.success()?;
    let opens =
        |what: &'static str| move || Ok(b.exec(["tail", "-n", "1", "/tmp/opened"])?.stdout() == what.as_bytes());
    lab.eventually("it opens files", PATIENCE, opens("yes\n"))?;
    let cap = b.inject(Fault::FdCap { command: "opener".into(), free: 0 })?;
    lab.eventually("it opens no more", PATIENCE, opens("no\n"))?;
    check!(refusal(b, Fault::FdCap { command: "opener".into(), free: 0 }).contains("may open 0 more files only"));
    cap.heal()?;
    lab.eventually("it opens files again", PATIENCE, opens("yes\n"))?;
    b.inject(Fault::ProcessKill { command: "opener".into() })?.heal()?;
    Ok(())
}

/// A machine that was started again has the bounds and the hogs that it had.
fn outlives(lab: &Lab, b: &Container) -> Result {
    let faults = [
        Fault::MemoryLimit { bytes: 48 << 20 },
        Fault::MemoryPressure { bytes: 16 << 20 },
        Fault::CpuQuota { percent: 20 },
        Fault::PidsCap { free: 16 },
        Fault::CpuBurn { processes: 1 },
    ];
    // What runs there now would not run afterwards.
    b.inject(Fault::NodeKill)?.heal()?;
    let injected = faults.into_iter().map(|fault| b.inject(fault)).collect::<Result<Vec<_>>>()?;
    b.inject(Fault::NodeKill)?.heal()?;
    check!(!takes(b, 40)? && takes(b, 8)?, "memory is bounded, and some is taken");
    check!(!starts(b, 18)?, "so are processes");
    lab.eventually("they are gone", PATIENCE, || Ok(b.exec(["true"])?.status == 0))?;
    check!(busy_seconds(b)? < 0.4, "and their time");
    check!(has_process(b, "while :; do :; done")?, "some of which is used up");
    for fault in injected {
        fault.heal()?;
    }
    check!(takes(b, 40)? && starts(b, 18)?);
    check!(!has_process(b, "while :; do :; done")? && !has_process(b, "sleep 2000000000")?);
    Ok(())
}

fn files(b: &Container) -> Result {
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

fn network(lab: &Lab, a: &Container, b: &Container) -> Result {
    let cut = b.inject(Fault::NetIsolate)?;
    check!(!reads(a)?, "no packet goes through");
    let down = b.inject(Fault::NodeKill)?;
    down.heal()?;
    serve_again(b)?;
    check!(!reads(a)?, "a cut outlives a restart of the machine");
    cut.heal()?;
    lab.eventually("a reads from b again", PATIENCE, || reads(a))?;

    let delayed = b.inject(Fault::NetDelay { delay_ms: 80, jitter_ms: 0, reorder_percent: 0 })?;
    let slow = ping(a)?;
    check!(slow >= 80.0, "a round trip takes at least the delay");
    delayed.heal()?;
    check!(ping(a)? < 80.0);

    let slow = b.inject(Fault::NetRate { kilobits_per_second: 1000 })?;
    check!(reads(a)?, "a slow link is a link");
    slow.heal()?;
    Ok(())
}

/// The service of a machine that cannot be reached by its peers.
fn serve_again(b: &Container) -> Result {
    b.exec(["httpd", "-p", "80", "-h", "/tmp/pages"])?.success()?;
    Ok(())
}

/// The round trip from a to b in milliseconds, the shortest of three.
fn ping(a: &Container) -> Result<f64> {
    let said = a.exec(["ping", "-c", "3", "-i", "0.2", "-W", "2", "b"])?.success()?;
    let line = said.stdout_text()?.lines().last().unwrap_or_default().to_owned();
    // round-trip min/avg/max = 0.051/0.062/0.081 ms
    let shortest = line.rsplit(" = ").next().and_then(|numbers| numbers.split('/').next());
    Ok(shortest.unwrap_or_default().parse()?)
}

/// Bounds, hogs and halted programs are healed in a machine that is frozen or down too, and come no more with its start.
fn healed_blindly(b: &Container) -> Result {
    for outage in [Fault::NodeFreeze, Fault::NodeKill] {
        supervise(b)?;
        b.sh("sleep 1234 >/dev/null 2>&1 &")?.success()?;
        let mut faults = vec![
            Fault::MemoryLimit { bytes: 48 << 20 },
            Fault::MemoryPressure { bytes: 16 << 20 },
            Fault::ProcessCrashloop { program: "/root/tail".into() },
            Fault::FdCap { command: "sleep 1234".into(), free: 2 },
            Fault::ProcessPause { command: "sleep 1234".into() },
            Fault::CpuBurn { processes: 1 },
            Fault::PidsCap { free: 16 },
            Fault::CpuQuota { percent: 20 },
        ];
        let all = processors_of(b)?;
        if all > 1 {
            faults.push(Fault::CpuPin { cpus: "0".into() });
        }
        let injected = faults.into_iter().map(|fault| b.inject(fault)).collect::<Result<Vec<_>>>()?;
        let outage = b.inject(outage)?;
        for fault in injected {
            fault.heal()?;
        }
        outage.heal()?;
        check!(takes(b, 40)? && starts(b, 18)? && processors_of(b)? == all);
        check!(!has_process(b, "while :; do :; done")? && !has_process(b, "sleep 2000000000")?);
        check!(b.exec(["/root/tail", "-n", "1", "/root/kept"])?.stdout() == b"on its disk");
        check!(b.sh("for state in /proc/[0-9]*/stat; do cat $state; done | grep -c ') T '")?.stdout() == b"0\n");
    }
    // A bound that a restart undoes is back with it.
    if processors_of(b)? > 1 {
        let pin = b.inject(Fault::CpuPin { cpus: "0".into() })?;
        b.inject(Fault::NodeKill)?.heal()?;
        check!(processors_of(b)? == 1);
        pin.heal()?;
        check!(processors_of(b)? > 1);
    }
    Ok(())
}

/// How many processors a program there sees.
fn processors_of(b: &Container) -> Result<u32> {
    Ok(b.exec(["nproc"])?.success()?.stdout_text()?.trim().parse()?)
}

fn refused(b: &Container) -> Result {
    let refusal = |fault: Fault| refusal(b, fault);
    let message = refusal(Fault::DiskFull { path: "/tmp".into(), free_bytes: 0 });
    check!(message.contains("lies on no volume; it has: /data"));
    let message = refusal(Fault::FileBitflip { path: "/no/such/file".into(), offset: 0, bit: 0 });
    check!(message.contains("/no/such/file"));
    let message = refusal(Fault::FileBitflip { path: "/data/file".into(), offset: 1 << 20, bit: 0 });
    check!(message.contains("no bit 0 of byte 1048576"));
    let message = refusal(Fault::ProcessKill { command: "no such process".into() });
    check!(message.contains("no process of b has \"no such process\" in its command"));
    Ok(())
}

/// Faults that nobody heals: the engine does, before it collects the logs.
fn leave_broken(a: &Container, b: &Container) -> Result {
    for fault in [Fault::MemoryLimit { bytes: 32 << 20 }, Fault::CpuQuota { percent: 20 }, Fault::PidsCap { free: 4 }] {
        std::mem::forget(a.inject(fault)?);
    }
    std::mem::forget(a.inject(Fault::NodeKill)?);
    std::mem::forget(b.inject(Fault::NodeFreeze)?);
    Ok(())
}
