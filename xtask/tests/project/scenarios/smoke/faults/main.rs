//! Every fault that a machine of busybox can have, and what a scenario sees of it.

use std::process::ExitCode;
use std::time::Duration;

use e2e::{Container, Direction, Fault, Lab, Partition, Port, RequestError, Result, check, failing_with};

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
    let c = lab.container("c")?;
    lab.step("disks", || disks(lab, &b, &c))?;
    lab.step("system calls", || system_calls(lab, &b))?;
    lab.step("network", || network(lab, &a, &b))?;
    lab.step("cuts", || cuts(lab, &a, &b))?;
    lab.step("lossy links", || lossy_links(&a, &b))?;
    lab.step("held packets", || held_packets(lab, &a, &b))?;
    lab.step("connections", || connections(lab, &a, &b))?;
    lab.step("name servers", || name_servers(&b))?;
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
    lab.eventually("no process is left", PATIENCE, || Ok(b.exec(["pgrep", "-f", "sleep 1234"])?.status != 0))?;
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

/// Whether a line can be written to a file, and to the disk.
fn writes(container: &Container, path: &str) -> Result<bool> {
    Ok(container.sh(format!("echo more | dd of={path} conv=fsync"))?.status == 0)
}

/// Ends a machine and starts it again: its faults go on after this.
fn restart(container: &Container) -> Result {
    container.inject(Fault::NodeKill)?.heal()?;
    Ok(())
}

/// Ends the programs with this piece in their command line: busybox as Debian builds it has no `pkill`.
fn end(container: &Container, command: &str) -> Result {
    container.inject(Fault::ProcessKill { command: command.into() })?.heal()?;
    Ok(())
}

fn disks(lab: &Lab, b: &Container, c: &Container) -> Result {
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
            busy.contains("(sleep, file /data/held) has a file there open for writing"),
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
        let broken = c.inject(fault.clone())?;
        check!(!writes(c, "/data/more")?);
        lab.eventually("who holds a file open cannot write", PATIENCE, || {
            Ok(c.sh("tail -n 1 /tmp/held | grep -q bad")?.status == 0)
        })?;
        broken.heal()?;
        check!(c.get("/data/kept")? == b"kept\n", "what was on the disk is there");
        check!(writes(c, "/data/more")?);
        end(c, "/data/held")?;

        let broken = c.inject(fault)?;
        restart(c)?;
        check!(!writes(c, "/data/more")?, "a restart mends no disk");
        broken.heal()?;
        check!(c.get("/data/kept")? == b"kept\n");
        check!(writes(c, "/data/more")?);
    }
    Ok(())
}

/// A program that writes a file to the disk again and again, and says what came of it and when.
fn system_calls(lab: &Lab, b: &Container) -> Result {
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
    check!(rounds_in_half_a_second(b)? <= 2, "each round takes a second");
    delayed.heal()?;
    lab.eventually("the rounds are short again", PATIENCE, || Ok(rounds_in_half_a_second(b)? > 2))?;

    let failing = b.inject(Fault::IoError { command: command(), call: call(), error: "ENOSPC".into() })?;
    restart(b)?;
    failing.heal()?;
    serve(b)
}

/// How often the program has said something new.
fn rounds_in_half_a_second(b: &Container) -> Result<usize> {
    let said = b.sh("for i in 1 2 3 4 5 6 7 8 9 10; do stat -c %y /tmp/came; sleep 0.05; done | sort -u | wc -l")?;
    Ok(said.success()?.stdout_text()?.trim().parse()?)
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

fn cuts(lab: &Lab, a: &Container, b: &Container) -> Result {
    let apart = Partition::Groups(vec![vec!["a".into()], vec!["b".into()]]);
    let oneway = |lost, peer: Option<&str>| Fault::NetOneway { lost, peer: peer.map(str::to_owned) };
    for fault in
        [Fault::NetPartition { shape: apart }, oneway(Direction::Inbound, None), oneway(Direction::Outbound, Some("a"))]
    {
        let cut = b.inject(fault)?;
        check!(!reads(a)?, "what a asks for does not come");
        cut.heal()?;
        lab.eventually("a reads from b again", PATIENCE, || reads(a))?;
    }
    let flapping = b.inject(Fault::NetFlap { down_ms: 300, up_ms: 300 })?;
    let heard = pings(a, 100, 100)?;
    check!(heard > 0 && heard < 100, "some come through, and some do not");
    flapping.heal()?;
    check!(pings(a, 100, 20)? == 20);
    Ok(())
}

fn lossy_links(a: &Container, b: &Container) -> Result {
    let lossy = b.inject(Fault::NetLoss { percent: 50 })?;
    let heard = pings(a, 100, 100)?;
    check!((20..80).contains(&heard), "about half of them come through");
    lossy.heal()?;
    let lossy = b.inject(Fault::NetNthLoss { every: 2 })?;
    check!(pings(a, 100, 20)? == 10, "every other one is lost, exactly");
    lossy.heal()?;
    let hole = b.inject(Fault::NetMtuHole { bytes: 500 })?;
    check!(pings(a, 472, 3)? == 3, "28 bytes of headers: just short enough");
    check!(pings(a, 473, 3)? == 0, "too long by one");
    hole.heal()?;
    let corrupt = b.inject(Fault::NetCorrupt { percent: 100 })?;
    check!(pings(a, 100, 3)? == 0, "nothing arrives whole");
    corrupt.heal()?;
    let duplicate = b.inject(Fault::NetDuplicate { percent: 100 })?;
    check!(ping_said(a, 100, 5)?.contains("duplicates"), "what comes twice is answered twice");
    restart(b)?;
    check!(ping_said(a, 100, 5)?.contains("duplicates"), "it outlives a restart of the machine");
    duplicate.heal()?;
    let said = ping_said(a, 1400, 5)?;
    check!(said.contains(" 5 packets received") && !said.contains("duplicates"));
    Ok(())
}

fn held_packets(lab: &Lab, a: &Container, b: &Container) -> Result {
    let shuffled = b.inject(Fault::NetDelay { delay_ms: 80, jitter_ms: 0, reorder_percent: 50 })?;
    let times = round_trips(&ping_said(a, 100, 40)?)?;
    check!(times.0 < 40.0 && times.1 >= 80.0, "some wait, and some do not");
    shuffled.heal()?;

    let stalled = b.inject(Fault::NetStall)?;
    a.sh("ping -c 1 -W 60 b > /tmp/held 2>&1 &")?.success()?;
    check!(pings(a, 100, 3)? == 0, "nothing arrives");
    stalled.heal()?;
    lab.eventually("what was held arrives", PATIENCE, || {
        Ok(String::from_utf8_lossy(&a.get("/tmp/held")?).contains(" 1 packets received"))
    })?;
    Ok(())
}

fn connections(lab: &Lab, a: &Container, b: &Container) -> Result {
    serve_again(b)?;
    lab.eventually("a reads from b", PATIENCE, || reads(a))?;
    let blocked = b.inject(Fault::NetPortBlock { port: 80 })?;
    check!(!reads(a)? && pings(a, 100, 2)? == 2, "the port alone is deaf");
    blocked.heal()?;
    lab.eventually("a reads from b again", PATIENCE, || reads(a))?;
    let refused = || -> Result<bool> {
        let read = a.command(["wget", "-q", "-O", "-", "http://b/page.txt"]).run()?;
        Ok(String::from_utf8_lossy(read.stderr()).contains("refused"))
    };
    let reset = b.inject(Fault::NetReset { port: Some(80) })?;
    check!(refused()?, "whoever connects is told at once");
    restart(b)?;
    serve_again(b)?;
    check!(refused()?, "it outlives a restart of the machine");
    reset.heal()?;
    lab.eventually("a reads from b again", PATIENCE, || reads(a))?;
    Ok(())
}

fn name_servers(b: &Container) -> Result {
    // Nothing listens there: that it is refused is what b hears without any fault.
    let asks = || -> Result<String> {
        let asked = b.command(["nslookup", "-type=a", "db.test", "10.77.0.1"]).deadline(PATIENCE).run()?;
        Ok(String::from_utf8_lossy(&[asked.stdout(), asked.stderr()].concat()).into_owned())
    };
    for (fault, expected) in [
        (Fault::DnsDrop, "timed out"),
        (Fault::DnsRefuse, "refused"),
        (Fault::DnsServfail, "SERVFAIL"),
        (Fault::DnsSpoof { address: [192, 0, 2, 66].into() }, "192.0.2.66"),
    ] {
        let fault = b.inject(fault)?;
        let said = asks()?;
        check!(said.contains(expected));
        restart(b)?;
        let said = asks()?;
        check!(said.contains(expected), "it outlives a restart of the machine");
        fault.heal()?;
        let said = asks()?;
        check!(expected == "refused" || !said.contains(expected));
    }
    Ok(())
}

/// How many of so many packets from a are answered by b, each of this length.
fn pings(a: &Container, bytes: u32, count: u32) -> Result<u32> {
    let said = ping_said(a, bytes, count)?;
    let line = said.lines().find(|line| line.contains(" packets received")).unwrap_or_default();
    // 5 packets transmitted, 4 packets received, 20% packet loss
    let received = line.split(", ").nth(1).and_then(|words| words.split(' ').next());
    Ok(received.unwrap_or_default().parse()?)
}

fn ping_said(a: &Container, bytes: u32, count: u32) -> Result<String> {
    let (bytes, count) = (bytes.to_string(), count.to_string());
    let said = a.exec(["ping", "-c", &count, "-i", "0.02", "-W", "1", "-s", &bytes, "b"])?;
    Ok(said.stdout_text()?.to_owned())
}

/// The shortest and the longest round trip in milliseconds.
fn round_trips(said: &str) -> Result<(f64, f64)> {
    // round-trip min/avg/max = 0.051/0.062/0.081 ms
    let numbers = said.trim_end().rsplit(" = ").next().unwrap_or_default().trim_end_matches(" ms");
    let times: Vec<&str> = numbers.split('/').collect();
    match times[..] {
        [shortest, _, longest] => Ok((shortest.parse()?, longest.parse()?)),
        _ => Err(e2e::Error::msg(format!("ping said {said:?}"))),
    }
}

fn refused(b: &Container) -> Result {
    let refusal = |fault: Fault| b.inject(fault).err().map(|error| error.to_string()).unwrap_or_default();
    let message = refusal(Fault::DiskFull { path: "/tmp".into(), free_bytes: 0 });
    check!(message.contains("lies on no volume; it has: /data"));
    let message = refusal(Fault::DiskDead { path: "/data".into() });
    check!(message.contains("lies in memory"));
    let message = refusal(Fault::IoError { command: "init".into(), call: "no_such_call".into(), error: "EIO".into() });
    check!(message.contains("invalid system call"));
    let message = refusal(Fault::FileBitflip { path: "/no/such/file".into(), offset: 0, bit: 0 });
    check!(message.contains("/no/such/file"));
    let message = refusal(Fault::FileBitflip { path: "/data/file".into(), offset: 1 << 20, bit: 0 });
    check!(message.contains("no bit 0 of byte 1048576"));
    let message = refusal(Fault::NetPartition { shape: Partition::Ring });
    check!(message.contains("a ring takes at least 4 containers"));
    let message = refusal(Fault::NetOneway { lost: Direction::Inbound, peer: Some("x".into()) });
    check!(message.contains("x is no other container of the lab: a"));
    for (fault, range) in [
        (Fault::NetLoss { percent: 0 }, "1 to 100"),
        (Fault::NetNthLoss { every: 1 }, "2 to 10000"),
        (Fault::NetDuplicate { percent: 101 }, "1 to 100"),
        (Fault::NetCorrupt { percent: 0 }, "1 to 100"),
        (Fault::NetMtuHole { bytes: 1500 }, "68 to 1499"),
        (Fault::NetFlap { down_ms: 49, up_ms: 50 }, "50 to 60000"),
        (Fault::NetPortBlock { port: 0 }, "1 to 65535"),
        (Fault::NetReset { port: Some(0) }, "1 to 65535"),
    ] {
        check!(refusal(fault).contains(range));
    }
    let lossy = b.inject(Fault::NetLoss { percent: 50 })?;
    check!(refusal(Fault::NetLoss { percent: 10 }).contains("already"), "the same twice");
    lossy.heal()?;
    let message = refusal(Fault::ProcessKill { command: "no such process".into() });
    check!(message.contains("no process of b has \"no such process\" in its command"));
    Ok(())
}

/// Faults that nobody heals: the engine does, before it collects the logs.
fn leave_broken(a: &Container, b: &Container) -> Result {
    std::mem::forget(a.inject(Fault::NodeKill)?);
    std::mem::forget(b.inject(Fault::NodeFreeze)?);
    Ok(())
}
