//! Faults that limit a machine: memory, processors, processes, files.

use e2e::{Container, Fault, Lab, Result, check};

use crate::PATIENCE;
use crate::machines::{has_process, refusal, supervise};

/// Tells whether a program can take this much memory; when it cannot, the kernel kills this program rather than another.
fn takes(b: &Container, mebibytes: u32) -> Result<bool> {
    let script =
        format!("echo 1000 > /proc/self/oom_score_adj; exec dd if=/dev/zero of=/dev/null bs={mebibytes}M count=1");
    Ok(b.sh(&script)?.status == 0)
}

pub fn memory(lab: &Lab, b: &Container) -> Result {
    check!(takes(b, 40)?);
    let limit = b.inject(Fault::MemoryLimit { bytes: 32 << 20 })?;
    check!(!takes(b, 40)? && takes(b, 8)?, "it may use less");
    check!(refusal(b, Fault::MemoryLimit { bytes: 16 << 20 }).contains("heal that fault first"));
    limit.heal()?;
    check!(takes(b, 40)?);
    check!(refusal(b, Fault::MemoryLimit { bytes: 1 << 20 }).contains("bytes that the kernel cannot reclaim"));

    let pressure = b.inject(Fault::MemoryPressure { bytes: 32 << 20 })?;
    check!(!takes(b, 40)? && takes(b, 8)?, "another holds it");
    check!(refusal(b, Fault::MemoryPressure { bytes: 1 << 20 }).contains("heal that fault first"));
    pressure.heal()?;
    check!(takes(b, 40)?);

    // What keeps the pipe open is no victim: the kernel may kill more than one.
    let victim = "(head -c 8000000 /dev/zero; exec sleep 4321) | \
                  (echo 1000 > /proc/self/oom_score_adj; exec tail -c 8000000)";
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

/// Returns the processor time that a busy program gets within a second.
fn busy_seconds(b: &Container) -> Result<f64> {
    let said = b.sh("timeout -s KILL 1 sh -c 'while :; do :; done'; times")?;
    let line = said.stdout_text()?.lines().last().unwrap_or_default().to_owned();
    // 0m0.490s 0m0.010s: of the children, in the program and in the kernel
    let seconds = |word: &str| word.trim_end_matches('s').split('m').nth(1).and_then(|text| text.parse::<f64>().ok());
    Ok(line.split_whitespace().filter_map(seconds).sum())
}

pub fn processors(lab: &Lab, b: &Container) -> Result {
    let quota = b.inject(Fault::CpuQuota { percent: 10 })?;
    check!(busy_seconds(b)? < 0.25, "it gets a tenth of a processor");
    check!(refusal(b, Fault::CpuQuota { percent: 5 }).contains("heal that fault first"));
    quota.heal()?;
    // More than a tenth of a processor allows, and less than a host with much to do gives.
    lab.eventually("it gets more", PATIENCE, || Ok(busy_seconds(b)? > 0.15))?;
    check!(refusal(b, Fault::CpuQuota { percent: 60 }).contains("may use 50 % of a processor now"));

    let all = processors_of(b)?;
    if all > 1 {
        let pin = b.inject(Fault::CpuPin { cpus: "0".into() })?;
        check!(processors_of(b)? == 1);
        check!(refusal(b, Fault::CpuPin { cpus: "0".into() }).contains("heal that fault first"));
        pin.heal()?;
        check!(processors_of(b)? == all);
        check!(refusal(b, Fault::CpuPin { cpus: "0-4000".into() }).contains("name some of them"));
    }

    let burn = b.inject(Fault::CpuBurn { processes: 2 })?;
    check!(has_process(b, "while :; do :; done")?);
    check!(refusal(b, Fault::CpuBurn { processes: 1 }).contains("heal that fault first"));
    burn.heal()?;
    check!(!has_process(b, "while :; do :; done")?);
    Ok(())
}

/// Returns the number of processors that a program in the container sees.
fn processors_of(b: &Container) -> Result<u32> {
    Ok(b.exec(["nproc"])?.success()?.stdout_text()?.trim().parse()?)
}

/// Tells whether this many processes can run side by side. Each stays until the last one has started.
fn starts(b: &Container, processes: u32) -> Result<bool> {
    let script = format!(
        "trap 'kill $started' EXIT; n=0; \
         while [ $n -lt {processes} ]; do sleep 4322 & started=\"$started $!\" n=$((n + 1)); done"
    );
    Ok(b.sh(&script)?.status == 0)
}

pub fn counts(lab: &Lab, b: &Container) -> Result {
    // What has just ended is counted as a process until its parent has looked at it: there is room for so many more then.
    const JUST_ENDED: u32 = 8;
    let cap = b.inject(Fault::PidsCap { free: 8 })?;
    check!(!starts(b, 8 + JUST_ENDED)?, "there is no room for so many");
    lab.eventually("they are gone", PATIENCE, || Ok(b.exec(["true"])?.status == 0))?;
    check!(refusal(b, Fault::PidsCap { free: 1 }).contains("heal that fault first"));
    cap.heal()?;
    check!(starts(b, 8 + JUST_ENDED)?);
    b.inject(Fault::PidsCap { free: 0 })?.heal()?;

    let opener = "while :; do if true </dev/null; then echo yes; else echo no; fi; sleep 0.02; done";
    b.write("/tmp/opener", opener)?;
    b.sh("sh -c \"$(cat /tmp/opener)\" opener > /tmp/opened 2>/dev/null &")?.success()?;
    let opens =
        |what: &'static str| move || Ok(b.exec(["tail", "-n", "1", "/tmp/opened"])?.stdout() == what.as_bytes());
    lab.eventually("it opens files", PATIENCE, opens("yes\n"))?;
    let cap = b.inject(Fault::FdCap { command: "opener".into(), free: 0 })?;
    lab.eventually("it opens no more", PATIENCE, opens("no\n"))?;
    check!(
        refusal(b, Fault::FdCap { command: "opener".into(), free: 0 }).contains("may open only 0 more files already")
    );
    cap.heal()?;
    lab.eventually("it opens files again", PATIENCE, opens("yes\n"))?;
    b.inject(Fault::ProcessKill { command: "opener".into() })?.heal()?;
    Ok(())
}

/// Checks that a restarted machine has the same limits and the same processes of faults as before.
pub fn outlives(lab: &Lab, b: &Container) -> Result {
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

/// Checks that limits, processes of faults and halted programs can be healed in a machine that is frozen or down, and do not come back
/// with its start.
pub fn healed_blindly(b: &Container) -> Result {
    b.write("/root/kept", "on its disk")?;
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
