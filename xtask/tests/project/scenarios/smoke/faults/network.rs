//! Faults of links and name servers.

use std::time::Duration;

use e2e::{Container, Direction, Fault, Lab, Partition, Result, check};

use crate::{PATIENCE, reads, restart};

pub fn links(lab: &Lab, a: &Container, b: &Container) -> Result {
    lab.step("network", || network(lab, a, b))?;
    lab.step("cuts", || cuts(lab, a, b))?;
    lab.step("lossy links", || lossy_links(a, b))?;
    lab.step("held packets", || held_packets(lab, a, b))?;
    lab.step("connections", || connections(lab, a, b))?;
    lab.step("name servers", || name_servers(lab, a, b))
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

/// Starts the server on b again, while its peers cannot reach it.
fn serve_again(b: &Container) -> Result {
    b.exec(["httpd", "-p", "80", "-h", "/tmp/pages"])?.success()?;
    Ok(())
}

/// Returns the round-trip time from a to b in milliseconds, the shortest of three.
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

fn name_servers(lab: &Lab, a: &Container, b: &Container) -> Result {
    // What listens at the name servers' port of a is none, but a connection to it can be told from a refusal.
    a.write("/tmp/pages/page.txt", "a page of a\n")?;
    a.exec(["httpd", "-p", "53", "-h", "/tmp/pages"])?.success()?;
    let connects = || -> Result<String> {
        let read = ["wget", "-q", "-O", "-", "http://a:53/page.txt"];
        let read = b.command(read).deadline(Duration::from_secs(1)).run()?;
        Ok(String::from_utf8_lossy(&[read.stdout(), read.stderr()].concat()).into_owned())
    };
    let asks = || -> Result<String> {
        let asked = b.exec(["nslookup", "-timeout=1", "-retry=1", "-type=a", "db.test", "10.77.0.1"])?;
        Ok(String::from_utf8_lossy(&[asked.stdout(), asked.stderr()].concat()).into_owned())
    };
    for (fault, hears, is_refused) in [
        (Fault::DnsDrop, "timed out", false),
        (Fault::DnsRefuse, "", true),
        (Fault::DnsServfail, "SERVFAIL", true),
        (Fault::DnsSpoof { address: [192, 0, 2, 66].into() }, "192.0.2.66", true),
    ] {
        lab.eventually("b connects to a", PATIENCE, || Ok(connects()? == "a page of a\n"))?;
        let fault = b.inject(fault)?;
        check!(asks()?.contains(hears) && connects()?.contains("refused") == is_refused);
        restart(b)?;
        check!(asks()?.contains(hears) && connects()?.contains("refused") == is_refused, "a restart changes nothing");
        check!(connects()? != "a page of a\n");
        fault.heal()?;
    }
    lab.eventually("b connects to a", PATIENCE, || Ok(connects()? == "a page of a\n"))?;
    check!(!asks()?.contains("192.0.2.66"));
    Ok(())
}

/// Checks a link with several faults at once, which are healed in another order than they were injected.
pub fn several_at_once(lab: &Lab, a: &Container, b: &Container) -> Result {
    let mut faults = Vec::new();
    for fault in [
        Fault::NetDelay { delay_ms: 30, jitter_ms: 5, reorder_percent: 0 },
        Fault::NetCorrupt { percent: 10 },
        Fault::NetLoss { percent: 10 },
        Fault::NetMtuHole { bytes: 1200 },
        Fault::NetDuplicate { percent: 20 },
        Fault::NetPortBlock { port: 81 },
        Fault::DnsServfail,
    ] {
        faults.push(b.inject(fault)?);
    }
    let twice = b.inject(Fault::NetStall).err().map(|error| error.to_string()).unwrap_or_default();
    check!(twice.contains("delayed or stalled by another fault already"));
    let heard = pings(a, 100, 100)?;
    check!(heard > 40 && heard < 99, "some are changed, and some are lost");
    for index in [3, 0, 1, 0, 2, 0, 0] {
        faults.remove(index).heal()?;
    }
    check!(pings(a, 1400, 20)? == 20);
    lab.eventually("a reads from b again", PATIENCE, || reads(a))?;
    Ok(())
}

/// Checks that each fault of links is healed whether or not its machine is running and can run programs.
pub fn healed_without_programs(lab: &Lab, a: &Container, b: &Container) -> Result {
    let faults = || {
        vec![
            Fault::NetIsolate,
            Fault::NetPartition { shape: Partition::Groups(vec![vec!["a".into()], vec!["b".into()]]) },
            Fault::NetOneway { lost: Direction::Outbound, peer: None },
            Fault::NetFlap { down_ms: 100, up_ms: 100 },
            Fault::NetDelay { delay_ms: 50, jitter_ms: 0, reorder_percent: 20 },
            Fault::NetLoss { percent: 50 },
            Fault::NetNthLoss { every: 2 },
            Fault::NetDuplicate { percent: 50 },
            Fault::NetCorrupt { percent: 50 },
            Fault::NetStall,
            Fault::NetMtuHole { bytes: 100 },
            Fault::NetReset { port: None },
            Fault::NetPortBlock { port: 80 },
            Fault::DnsDrop,
            Fault::DnsRefuse,
            Fault::DnsServfail,
            Fault::DnsSpoof { address: [192, 0, 2, 66].into() },
        ]
    };
    let frozen = b.inject(Fault::NodeFreeze)?;
    for fault in faults() {
        b.inject(fault)?.heal()?;
    }
    frozen.heal()?;
    check!(reads(a)?, "what was thawed goes on where it was");
    for fault in faults() {
        let fault = b.inject(fault)?;
        let down = b.inject(Fault::NodeKill)?;
        fault.heal()?;
        down.heal()?;
    }
    serve_again(b)?;
    lab.eventually("a reads from b again", PATIENCE, || reads(a))?;
    check!(pings(a, 1400, 20)? == 20);
    Ok(())
}

/// Returns the number of packets from a, of this count and length, that b answers.
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

/// Returns the shortest and the longest round-trip time in milliseconds, from ping's output.
fn round_trips(said: &str) -> Result<(f64, f64)> {
    // round-trip min/avg/max = 0.051/0.062/0.081 ms
    let numbers = said.trim_end().rsplit(" = ").next().unwrap_or_default().trim_end_matches(" ms");
    let times: Vec<&str> = numbers.split('/').collect();
    match times[..] {
        [shortest, _, longest] => Ok((shortest.parse()?, longest.parse()?)),
        _ => Err(e2e::Error::msg(format!("ping said {said:?}"))),
    }
}
