//! Scenario of a backup: a database on db and a folder on worker are saved on app, damaged backups are refused, all data is deleted, and
//! restored on a machine that never had any of it.
//!
//! The backup is `fixtures/backup.py`. This program makes the data, damages and deletes it, and compares the machines before and after,
//! with SQL and a listing of its own. With `--chaos`, the data is saved again and again during faults before it is deleted.

mod damage;
mod report;
mod tolerate;
mod world;

use common::differences::differences;
use common::files::install;
use common::mancer;
use common::measured::Operations;
use common::postgres::psql;
use common::threads::together;
use damage::{Whole, broken_tool, refused};
use e2e::{Lab, Port, check};
use report::{FOLDER, done};
use world::{CONFIG_TEXT, Place};

const NONE: &[String] = &[];
/// Known defects of Mancer that `backup.py` works around, with a part of the text of each failure.
const DEFECTS: [(&str, &str); 7] = [
    ("remote-restore", "restore_from_backup to another machine is False"),
    ("backup-text-only", "backup_file: Failed to read local file: 'utf-8' codec can't decode byte 0xff"),
    ("backup-changes-line-ends", r"b'one\r\ntwo\r\n' came back as b'one\ntwo\n'"),
    ("backup-opens-secrets", "the backup of a file of mode 600 has mode 644"),
    ("backup-same-second", r"the backup of db's file holds b'of worker\n'"),
    ("backup-splits-names", "backup_file: Failed to read remote file: cat: /tmp/two: No such file or directory"),
    ("hash-of-other-bytes", "calculate_file_hash is c3f9c8c2 where sha256sum is 6f4792b2"),
];

fn main() -> std::process::ExitCode {
    e2e::Scenario::new(scenario).defects(probes).run()
}

fn scenario(lab: &Lab) -> e2e::Result {
    let [app, db, worker, spare] = ["app", "db", "worker", "spare"].map(|name| lab.container(name));
    let (app, db, worker, spare) = (app?, db?, worker?, spare?);
    for (machine, port) in [(&db, 22), (&db, 5432), (&worker, 22), (&spare, 22), (&spare, 5432)] {
        machine.wait_for(Port(port))?;
    }
    let before = Place { database: &db, files: &worker, parent: "/srv/data" };
    let after = Place { database: &spare, files: &spare, parent: "/srv" };
    install(lab, &app, "/srv/drivers")?;
    app.exec(["install", "-d", "-o", "mancer", "/srv/backup"])?.success()?;

    let ((), saved) = lab.step("make what is to be saved, and try what Mancer does wrong meanwhile", || {
        let fill = || before.fill(lab).and_then(|()| before.check_all(lab));
        together(|| probes(lab), fill)
    })?;
    lab.step("a broken tool", || broken_tool(lab, &app, &worker))?;
    lab.measure("backup", || done(lab, &app, "create"))?;

    lab.step("damaged backups", || {
        let whole = |name| Whole::of(&app, name);
        let (dump, files, manifest) = (whole("database.dump")?, whole("files.tar.gz")?, whole("manifest.json")?);
        let (size, sum) = ("bytes instead of", "checksum");
        refused(lab, &app, &after, "restore", "damage-1", [(dump.truncate()?, size), (files.flip()?, sum)])?;
        refused(lab, &app, &after, "restore", "damage-2", [(dump.flip()?, sum), (files.truncate()?, size)])?;
        refused(lab, &app, &after, "verify", "damage-3", [(manifest.flip()?, sum)])
    })?;
    measure(lab, &Operations::start(lab, &app, "/srv/drivers", &[FOLDER])?)?;

    lab.step("tolerate faults", || tolerate::tolerate_faults(lab, &app, &before))?;

    lab.step("the disaster", || before.destroy())?;
    lab.measure("restore", || done(lab, &app, "restore"))?;
    let wrong = differences(&saved, &after.check_all(lab)?);
    check!(wrong == NONE, "tables, rows and all that hangs on them are what they were");
    let order =
        "INSERT INTO orders (customer, total, placed, items, tags) VALUES (1, 1, now(), '{}', '{}') RETURNING id";
    let order = psql(&spare, "shop", order)?;
    check!(order.trim() == "20001", "the restored database goes on where the other stopped");
    Ok(())
}

/// Tries what Mancer is known to do wrong.
fn probes(lab: &Lab) -> e2e::Result {
    mancer::known_defects(lab, &lab.container("app")?, "/srv/drivers/probes.py", &DEFECTS)
}

/// Measures what Mancer does for a backup every day: over SSH the copies of a configuration file, in a shell here the verification.
fn measure(lab: &Lab, operations: &Operations<'_>) -> e2e::Result {
    lab.measure_n("trace_settings", 3, || {
        let traced: Vec<(bool, bool, String)> = operations.perform("trace_settings")?;
        let expected = [(true, true, CONFIG_TEXT.to_owned())];
        check!(traced == expected, "each copy equals the file, is put back, and has the text of the file");
        Ok(())
    })?;
    lab.measure_n("verify_backup", 3, || {
        let whole: Vec<String> = operations.perform("verify")?;
        check!(
            whole == ["database.dump", "files.tar.gz", "roles.sql", "shop.ini"],
            "every file of the backup is whole"
        );
        Ok(())
    })
}
