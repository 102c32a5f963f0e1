//! Backups during faults.

use std::time::Duration;

use common::differences::differences;
use common::postgres::psql;
use e2e::{Container, Lab, Port, check};

use crate::report::{FOLDER, run};
use crate::world::Place;

/// Folder on app of the backups that are made during faults, one after the other.
const AMID_FAULTS: &str = "/srv/backup/amid-faults";
const NONE: &[String] = &[];
/// Deadline of a backup during faults, when an answer may never come.
const DEADLINE: Duration = Duration::from_secs(8);
/// Shell script that prints the content of a backup: checksums, and the archive's own list. It leaves out what differs between equal
/// backups: comments of a dump hold the time, lines with `restrict` a random key, and a sequence skips numbers after a crash.
const CONTENT: &str = "cd \"$1\"
    for sql in 'pg_restore --file - database.dump' 'cat roles.sql'; do
        $sql > /tmp/content || exit 1
        echo \"$(grep -v -e '^--' -e '^.restrict ' -e '^.unrestrict ' -e 'pg_catalog.setval' /tmp/content | sha256sum) $sql\"
    done
    tar --list --verbose --file files.tar.gz && tar --extract --to-stdout --file files.tar.gz > /tmp/content || exit 1
    sha256sum /tmp/content shop.ini";

/// Saves all data again and again while `--chaos` injects faults. An attempt may fail; a backup that was made and verified must have the
/// same content as the first one.
pub fn tolerate_faults(lab: &Lab, app: &Container, saved: &Place<'_>) -> e2e::Result {
    let content = |folder| {
        let found = app.exec(["/bin/sh", "-c", CONTENT, "sh", folder])?.success()?;
        Ok(found.stdout_text()?.lines().map(str::to_owned).collect())
    };
    let save = || {
        app.exec(["rm", "-rf", AMID_FAULTS])?.success()?;
        run(lab, app, "create", AMID_FAULTS, "create-amid-faults", DEADLINE)?;
        let verified = run(lab, app, "verify", AMID_FAULTS, "verify-amid-faults", DEADLINE)?;
        let content: e2e::Result<Vec<String>> = content(AMID_FAULTS);
        Ok::<_, e2e::Error>((verified, content?))
    };
    lab.chaos(|chaos| {
        chaos.always("what is saved stays as it is", || {
            Ok(psql(saved.database, "shop", "SELECT count(*) FROM orders")?.trim() == "20000")
        });
        let first = if chaos.is_playing() { content(FOLDER)? } else { Vec::new() };
        while chaos.lasts() {
            app.wait_for(Port(22))?;
            let attempt = lab.invoke("backup", "create", ())?;
            match save() {
                Ok((verified, content)) if verified.outcome == "done" => {
                    let wrong = differences(&first, &content);
                    check!(wrong == NONE, "what was saved amid faults, and verified, is what there is");
                    attempt.ok(())?;
                }
                Ok((verified, _)) => attempt.fail(format!("{verified:?}"))?,
                Err(error) => attempt.unknown(format!("{error:#}"))?,
            }
        }
        Ok(())
    })
}
