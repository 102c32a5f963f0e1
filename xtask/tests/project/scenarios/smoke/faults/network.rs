//! Links and name servers.

use e2e::{Container, Direction, Fault, Lab, Partition, Result, check};

use crate::{PATIENCE, reads, restart};

pub fn network(lab: &Lab, a: &Container, b: &Container) -> Result {
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

pub fn cuts(lab: &Lab, a: &Container, b: &Container) -> Result {
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

pub fn lossy_links(a: &Container, b: &Container) -> Result {
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

pub fn held_packets(lab: &Lab, a: &Container, b: &Container) -> Result {
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

pub fn connections(lab: &Lab, a: &Container, b: &Container) -> Result {
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

pub fn name_servers(b: &Container) -> Result {
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
