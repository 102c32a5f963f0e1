//! Isolation of machines from each other: one lab, entered as root.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use xtask::host::shell::{Command, Output};

use super::common::{Host, engine, said, slot, with_slot};
use super::project::{MINI, Project};

struct Lab {
    project: Project,
}

impl Lab {
    fn up() -> Self {
        let project = Project::new(MINI);
        let lab = Self { project };
        lab.verb(&["up", "mini", "mini", "mini", "--name", "app,db,asks"]);
        lab
    }

    fn command(&self, words: &[&str]) -> Command {
        engine().args(with_slot(words)).dir(self.project.path()).deadline(Duration::from_secs(60))
    }

    fn verb(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        assert_eq!(output.status, 0, "{words:?}: {}", said(&output));
        said(&output)
    }

    fn inside(&self, machine: &str, script: &str) -> Output {
        self.command(&["exec", machine, "--", "/bin/sh", "-c", script]).output().unwrap()
    }

    fn file(&self) -> Value {
        let path = Path::new("/run/mancer-e2e").join(slot()).join("lab.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).output();
    }
}

#[test]
fn a_machine_keeps_its_own_address() {
    let _host = Host::take();
    let lab = Lab::up();
    addresses_are_kept(&lab);
}

/// The attempts of `app` to get the connections of `db`, and how many of 12 came to `app`.
fn taken(lab: &Lab, attack: &str) -> usize {
    let address = |name: &str| {
        let hosts = lab.inside("asks", &format!("grep ' {name}$' /etc/hosts")).text();
        hosts.split(' ').next().unwrap().to_owned()
    };
    let (db, app) = (address("db"), address("app"));
    let octet: u8 = db.rsplit('.').next().unwrap().parse().unwrap();
    let mac = format!("02:e2:e0:00:00:{octet:02x}");
    let attack = attack.replace("DB", &db).replace("MAC", &mac).replace("APP", &app);
    let output = lab.inside("app", &attack);
    assert_eq!(output.status, 0, "{}", said(&output));
    let client = format!(
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do timeout 2 wget -q -O - http://{db}:8000/who 2>/dev/null || echo nobody; done"
    );
    let answers = lab.inside("asks", &client).text();
    assert_eq!(answers.lines().count(), 12, "{answers}");
    answers.lines().filter(|line| *line != "db").count()
}

fn addresses_are_kept(lab: &Lab) {
    for name in ["app", "db"] {
        let serve = format!("mkdir -p /tmp/www && echo {name} > /tmp/www/who && httpd -p 8000 -h /tmp/www");
        assert_eq!(lab.inside(name, &serve).status, 0);
    }
    // Its address beside the own one, announced again and again; and its hardware address, with packets that bridges learn from.
    let address = "ip address add DB/24 dev eth0; (while :; do arping -q -c 1 -A -I eth0 DB; usleep 20000; done) >/dev/null 2>&1 & \
                   for i in 1 2 3; do arping -q -c 1 -U -I eth0 DB; done; true";
    let hardware = "ip link set eth0 address MAC; (while :; do arping -q -c 1 -A -I eth0 APP; usleep 5000; done) >/dev/null 2>&1 & \
                    arping -q -c 1 -A -I eth0 APP; true";
    assert_eq!(taken(lab, "true"), 0, "nobody attacks");
    assert_eq!(taken(lab, address), 0, "by the address");
    assert_eq!(taken(lab, hardware), 0, "by both addresses");
    // The same without the lock: the attack is one.
    let place = lab.file()["network"]["path"].as_str().unwrap().to_owned();
    let unlock = format!("--net={place}");
    Command::new("nsenter").args([&unlock, "nft", "delete", "table", "bridge", "e2e_ports"]).run().unwrap();
    let without = taken(lab, "true");
    assert!(without > 0, "without the lock");
    println!("without the lock {without} of 12 connections came to another machine");
}
