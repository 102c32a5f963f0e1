//! Scenario of three machines in one network: names, a wait for a service, measured operations.

use std::process::ExitCode;
use std::time::Duration;

use e2e::{Container, Http, Lab, Port, Result, check};

fn main() -> ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> Result {
    let (a, b) = (lab.container("a")?, lab.container("b")?);
    lab.step("names resolve everywhere", || names_resolve(lab))?;
    lab.step("a reads a page of b", || a_page_over_the_network(lab, &a, &b))?;
    lab.log(format!("case {} of {} is through", lab.case(), lab.scenario()));
    Ok(())
}

fn names_resolve(lab: &Lab) -> Result {
    let machines: Vec<Container> = lab.containers().collect();
    check!(machines.len() == 3);
    for machine in &machines {
        let hosts = String::from_utf8(machine.get("/etc/hosts")?)?;
        for peer in &machines {
            let (address, name) = (peer.address().to_string(), peer.name());
            let entry = |line: &&str| {
                let mut words = line.split_whitespace();
                words.next() == Some(&*address) && words.any(|word| word == name)
            };
            check!(hosts.lines().filter(entry).count() == 1, "{} knows {name}:\n{hosts}", machine.name());
        }
    }
    Ok(())
}

fn a_page_over_the_network(lab: &Lab, a: &Container, b: &Container) -> Result {
    b.put(lab.fixture("page.txt"), "/tmp/pages/page.txt")?;
    b.exec(["httpd", "-p", "80", "-h", "/tmp/pages"])?.success()?;
    b.wait_for_within(Port(80), Duration::from_secs(10))?;
    b.wait_for(Http("/page.txt"))?;
    let page = lab.measure("first_page", || a.exec(["wget", "-q", "-O", "-", "http://b/page.txt"])?.success())?;
    check!(page.stdout_text()? == "a page of b\n");
    lab.measure_n("page", lab.param("repetitions")?, || {
        a.exec(["wget", "-q", "-O", "/dev/null", "http://b/page.txt"])?.success()?;
        Ok(())
    })?;
    lab.artifact("page.txt", page.stdout())
}
