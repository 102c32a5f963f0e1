//! Scenario of data recovery: the books on db are damaged in many ways, as by people and disks, and a program on app restores them with
//! Mancer from a base backup, PostgreSQL's log, and its own log of acknowledged transactions.
//!
//! `fixtures/recover.py` is the program. This scenario damages the books, reads which damage the program has found, and compares the
//! books with `books.rs`, which computes every row from its number. All the time, a reader on worker asks for rows: an answer may be an
//! error or incomplete, but never wrong. With `--chaos`, the program goes on during faults at the end, and may take none of them for
//! damage.

mod books;
mod served;
mod site;

use std::time::Duration;

use common::mancer;
use common::measured::Operations;
use common::threads::together;
use e2e::{Container, Fault, Lab, check};
use site::{Incident, Site};

/// Deadline for damage to be found and repaired; it takes 3 s on an idle machine.
const REPAIR_DEADLINE: Duration = Duration::from_secs(40);
/// Deadline of the stretch with faults, longer than the stretch.
const CHAOS_DEADLINE: Duration = Duration::from_secs(60);
const LEDGER_CONF: &str = "/etc/postgresql/15/main/conf.d/ledger.conf";
const LEDGER_JSON: &str = "/srv/ledger/ledger.json";
/// Payments whose pages are damaged: they are on two pages, and among the rows that the reader asks for.
const DAMAGED_PAYMENTS: [u64; 2] = [100, 190];
const NONE: &[String] = &[];
/// Known defects of Mancer that `fixtures/probes.py` shows and the program avoids, with a part of the text of each failure.
const DEFECTS: [(&str, &str); 4] = [
    ("bash-command-forgets", "what would run is 'sudo echo'"),
    ("chain-hides-failure", "a chain whose first command failed is a success"),
    ("pipe-into-bash", "the checksum is that of nothing"),
    ("ssh-bytes", "'SSH Error occurred'"),
];

fn main() -> std::process::ExitCode {
    e2e::Scenario::new(scenario).defects(probes).run()
}

fn scenario(lab: &Lab) -> e2e::Result {
    let site = Site::of(lab)?;
    together(|| probes(lab), || lab.measure("data_setup", || site.set_up(lab)))?;
    settings_damaged(lab, &site)?;
    rows_deleted_and_table_dropped(lab, &site)?;
    pages_damaged(lab, &site)?;
    lab.step("tolerate faults", || tolerate_faults(lab, &site))?;
    lab.step("stop", || site.stop())?;
    verify(lab, &site)
}

/// Tries what Mancer is known to do wrong.
fn probes(lab: &Lab) -> e2e::Result {
    mancer::known_defects(lab, &lab.container("app")?, "/srv/ledger/probes.py", &DEFECTS)
}

/// Truncates PostgreSQL's settings, and changes a 20 to a 21 in the program's: both must be noticed before they are used.
fn settings_damaged(lab: &Lab, site: &Site) -> e2e::Result {
    let (conf, json) = (site.db.get(LEDGER_CONF)?, site.app.get(LEDGER_JSON)?);
    let digit = books::position(&json, b"20")?;
    let files = [format!("app:{LEDGER_JSON}"), format!("db:{LEDGER_CONF}")];
    let (known, mut named) = (site.incidents()?.len(), Vec::new());
    site.signal_program("STOP")?; // it would put the files back before anybody has seen that they are damaged
    let faults = [
        site.db.inject(Fault::FileTruncate { path: LEDGER_CONF.into(), size_bytes: 40 })?,
        site.app.inject(Fault::FileBitflip { path: LEDGER_JSON.into(), offset: digit, bit: 0 })?,
    ];
    lab.measure("settings_repair", || {
        site.signal_program("CONT")?;
        lab.eventually("ledger.conf on db and ledger.json on app are named", REPAIR_DEADLINE, || {
            named = site.incidents()?.into_iter().skip(known).flat_map(|incident| incident.files).collect();
            named.sort();
            Ok(named.len() >= files.len())
        })
    })?;
    check!(named == files, "the damaged files, and no others, are named");
    check!(site.db.get(LEDGER_CONF)? == conf, "{LEDGER_CONF} is what it was");
    check!(site.app.get(LEDGER_JSON)? == json, "{LEDGER_JSON} is what it was");
    for fault in faults {
        fault.heal()?;
    }
    let acknowledged = site.state()?.acknowledged;
    check!(acknowledged % books::BATCH == 0, "no batch was sent with damaged settings");
    Ok(())
}

/// Deletes every seventh payment and drops the table of customers. The program must restore the cluster to a moment before, and send
/// again the transactions acknowledged since.
fn rows_deleted_and_table_dropped(lab: &Lab, site: &Site) -> e2e::Result {
    site.wait_for_a_look(lab)?;
    let before = site.incidents()?.len();
    let (deleted, incident) = lab.measure("deletion_and_drop_recovery", || {
        let deleted = site.psql("DELETE FROM payments WHERE number % 7 = 0 RETURNING number; DROP TABLE customers")?;
        let incident = repaired(lab, site, before)?;
        Ok((deleted, incident))
    })?;
    let mut deleted = deleted.lines().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    deleted.sort_unstable();
    check!(incident.tables == ["customers"], "the table that is gone is named");
    check!(incident.rows.keys().collect::<Vec<_>>() == ["payments"], "the table with missing rows is named");
    check!(incident.rows["payments"] == deleted, "every row that is gone is named");
    check!(incident.restored_to.contains('/'), "the cluster went back to a position before the damage");
    check!(incident.replayed >= books::BATCH, "what was acknowledged after that position was sent again");
    lab.log(format!("deletion and drop: {} rows; {} sent again", deleted.len(), incident.replayed));
    all_acknowledged_is_there(site)
}

/// Flips a bit of a payment in each of two pages, and restarts PostgreSQL, so that it must read them from the disk.
fn pages_damaged(lab: &Lab, site: &Site) -> e2e::Result {
    site.wait_for_a_look(lab)?;
    site.psql("CHECKPOINT")?;
    let before = site.incidents()?.len();
    let file = site.psql("SELECT pg_relation_filepath('payments')")?.trim().to_owned();
    let path = format!("/var/lib/postgresql/15/main/{file}");
    let content = site.db.get(&path)?;
    let offsets = DAMAGED_PAYMENTS.map(|number| books::position(&content, books::memo(number).as_bytes()));
    let mut blocks = Vec::new();
    let mut faults = Vec::new();
    for offset in offsets {
        let offset = offset?;
        faults.push(site.db.inject(Fault::FileBitflip { path: path.clone(), offset, bit: 0 })?);
        blocks.push((file.clone(), offset / site::BLOCK_BYTES));
    }
    check!(blocks[0] != blocks[1], "two pages are damaged");
    let incident = lab.measure("page_recovery", || {
        site.db.exec(["systemctl", "restart", site::POSTGRESQL])?.success()?;
        repaired(lab, site, before)
    })?;
    check!(incident.blocks == blocks, "file and block of each damaged page are named, and no others");
    check!(incident.restored_to == "the end of the log", "nothing of the log was left out");
    check!(incident.replayed == 0, "all that was acknowledged was in PostgreSQL's log");
    for fault in faults {
        fault.heal()?;
    }
    all_acknowledged_is_there(site)
}

/// Checks that no fault is taken for damage while the program sends transactions and `--chaos` injects faults.
fn tolerate_faults(lab: &Lab, site: &Site) -> e2e::Result {
    let incidents = site.incidents()?.len();
    let played = lab.chaos(|chaos| {
        chaos.always("the program has not given up", || Ok(!site.has_given_up()?));
        chaos.always("nothing is taken for damage", move || Ok(site.incidents()?.len() == incidents));
        if chaos.is_playing() {
            lab.eventually("all faults were played", CHAOS_DEADLINE, || Ok(!chaos.lasts()))?;
        }
        Ok(chaos.is_playing())
    })?;
    if !played {
        return Ok(());
    }
    let settled = site.state()?;
    lab.eventually("transactions are acknowledged again, and looked at", REPAIR_DEADLINE, || {
        let state = site.state()?;
        Ok(state.acknowledged > settled.acknowledged && state.looks > settled.looks + 1)
    })?;
    lab.at_end("nothing was taken for damage", || Ok(site.incidents()?.len() == incidents))?;
    all_acknowledged_is_there(site)
}

/// Waits until the program has repaired damage and works again; returns the incident.
fn repaired(lab: &Lab, site: &Site, before: usize) -> e2e::Result<Incident> {
    lab.eventually("the program has found the damage and repaired it", REPAIR_DEADLINE, || {
        Ok(site.incidents()?.len() > before && site.state()?.state == "working")
    })?;
    let mut new = site.incidents()?.split_off(before);
    check!(new.len() == 1, "one incident came of it");
    Ok(new.remove(0))
}

/// Checks that all acknowledged rows are on db. The program goes on, so db may have one batch more than is acknowledged.
fn all_acknowledged_is_there(site: &Site) -> e2e::Result {
    let acknowledged = site.state()?.acknowledged;
    let missing = books::missing(&site.rows()?, acknowledged);
    check!(missing == NONE, "all that was acknowledged is on db as it was sent, up to {acknowledged}");
    Ok(())
}

/// Measures how Mancer looks for damage, settings over SSH and tables by a psql on app, and how it reads the books.
fn measure(lab: &Lab, app: &Container) -> e2e::Result {
    let operations = Operations::start(lab, app, "/srv/ledger", &[])?;
    lab.measure_n("look_for_damage", 3, || {
        let damage: serde_json::Map<String, serde_json::Value> = operations.perform("look_for_damage")?;
        check!(damage.is_empty(), "nothing is damaged any more");
        Ok(())
    })?;
    let expected: Vec<String> = (1..=site::READ_UP_TO).map(books::row).collect();
    lab.measure_n("read_books", 3, || {
        let rows: Vec<String> = operations.perform_with("read_back", &[site::READ_UP_TO])?;
        check!(rows == expected, "what Mancer reads");
        Ok(())
    })
}

/// Checks that the books are the result of the acknowledged transactions, and that the reader never got a wrong row.
fn verify(lab: &Lab, site: &Site) -> e2e::Result {
    let acknowledged = site.state()?.acknowledged;
    let rows = site.rows()?;
    site.verify_pages()?;
    measure(lab, &site.app)?;
    check!(site.lines_of_the_log()? == acknowledged, "the log has a line for each acknowledged transaction");
    check!(books::missing(&rows, acknowledged) == NONE, "nothing that was acknowledged is lost");
    check!(books::unexpected(&rows, acknowledged) == NONE, "nothing else is there");
    let kept = site.psql("SELECT setting FROM pg_file_settings WHERE name = 'wal_keep_size' AND applied")?;
    check!(kept.trim() == "64MB", "PostgreSQL has started with the settings that were put back");

    let answers = served::read(lab, &site.worker)?;
    check!(served::wrong(&answers) == NONE, "no answer had a wrong row");
    check!(served::complete(&answers) > 0, "the reader was served");
    check!(served::errors(&answers, "invalid page in block") > 0, "it asked for a damaged page and was given an error");
    Ok(())
}
