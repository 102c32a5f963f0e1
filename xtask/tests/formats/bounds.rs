//! The table of bounds in `docs/labs.md`, made from the constants.

use std::path::Path;

use xtask::host::disk::archive::{COPY_BYTES_MAX, COPY_FILES_MAX};
use xtask::host::disk::tar_entries::{BETWEEN_BYTES_MAX, NAMES_BYTES_MAX, PATH_BYTES_MAX, PATH_PARTS_MAX};
use xtask::host::exec::bounded_log;
use xtask::host::exec::program_output::OUTPUT_BYTES_MAX;
use xtask::host::invoker::READ_BYTES_MAX;
use xtask::host::machine::kmsg::WATCHED_MAX;
use xtask::lab::{
    ATTACH_LOG_BYTES_MAX, CONSOLE_BYTES_MAX, LOG_BYTES_MAX, LOG_FILES_BYTES_MAX, LOG_FILES_MAX, LXC_LOG_BYTES_MAX,
};
use xtask::record::KEPT_BYTES_MAX;
use xtask::session::SCENARIO_LOG_BYTES_MAX;
use xtask::session::bounds::{ATTEMPT_BYTES_MAX, ATTEMPT_FILES_MAX, STATEMENT_BYTES_MAX, TEXT_BYTES_MAX};

/// Set to anything, it makes the table anew.
const WRITE_VARIABLE: &str = "E2E_WRITE_REFERENCE";

fn size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >> shift > 0 && bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}

fn table() -> String {
    let text_bytes = u64::try_from(TEXT_BYTES_MAX).unwrap();
    let rows = [
        (
            "stdout and stderr of an `exec`, each",
            size(OUTPUT_BYTES_MAX),
            "the rest is read and dropped, the program goes on; a warning, and `not_kept_bytes` of the event, say how much",
        ),
        ("a file that `get` reads", size(OUTPUT_BYTES_MAX), "an error in the request"),
        ("a file that `put` sends", size(READ_BYTES_MAX), "an error in the request"),
        (
            "artifacts, long streams and screenshots of an attempt",
            format!("{} in {ATTEMPT_FILES_MAX} files", size(ATTEMPT_BYTES_MAX)),
            "an error in the request; of a stream the start is kept, as above",
        ),
        ("the same of a run", size(KEPT_BYTES_MAX), "as above"),
        (
            "what requests put into the record of an attempt: notes, steps, checks, metrics, a history",
            size(STATEMENT_BYTES_MAX),
            "an error in the request, which fails the case",
        ),
        ("one text of those", size(text_bytes), "cut, and the text says so"),
        (
            "`scenario.log`",
            size(SCENARIO_LOG_BYTES_MAX),
            "the start and the end are kept; the file and a warning say how much is missing between them",
        ),
        (
            "`console.log` while the lab lives",
            format!("{}, twice", size(CONSOLE_BYTES_MAX)),
            "it begins anew; the one before is `console.log.1`",
        ),
        (
            "`lxc.log` while the lab lives",
            size(LXC_LOG_BYTES_MAX),
            "the next start of the machine cuts it; the file says so",
        ),
        ("`attach.log` while the lab lives", size(ATTACH_LOG_BYTES_MAX), "it begins anew"),
        (
            "`start.log`, the log of a build, of strace and of other helpers",
            size(bounded_log::LOG_BYTES_MAX),
            "the newest half is kept; the file says so",
        ),
        ("one log of a machine in the record", size(LOG_BYTES_MAX), "the end is kept; the file says so"),
        ("`kernel.log` of an attempt", format!("{WATCHED_MAX} messages"), "the first ones are kept; the file says so"),
        (
            "files that a template names in `logs`, of one machine",
            format!("{} in {LOG_FILES_MAX} files", size(LOG_FILES_BYTES_MAX)),
            "`left-out.log` names the others",
        ),
        (
            "one `cp` out of a machine",
            format!("{} in {COPY_FILES_MAX} files", size(COPY_BYTES_MAX)),
            "an error, and nothing is kept; holes of sparse files stay holes",
        ),
        (
            "names in such a copy, and in a bundle that is unpacked",
            format!(
                "each {PATH_BYTES_MAX} bytes and {PATH_PARTS_MAX} parts; {} together; {} with attributes before one file",
                size(u64::try_from(NAMES_BYTES_MAX).unwrap()),
                size(BETWEEN_BYTES_MAX)
            ),
            "as above",
        ),
    ];
    let mut text = String::from("| what | bound | past it |\n|---|---|---|\n");
    for (what, bound, past) in rows {
        text.push_str(&format!("| {what} | {bound} | {past} |\n"));
    }
    text
}

#[test]
fn the_table_of_bounds_is_what_the_engine_keeps_to() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/labs.md");
    let written = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = written.split_once("<!-- bounds -->\n").expect("the page has the mark");
    let (_, after) = rest.split_once("<!-- end -->").expect("the page has its end");
    let made = format!("{before}<!-- bounds -->\n{}<!-- end -->{after}", table());
    if std::env::var_os(WRITE_VARIABLE).is_some() {
        std::fs::write(&path, &made).unwrap();
        return;
    }
    assert!(
        made == written,
        "docs/labs.md: the constants say something else\n    help: {WRITE_VARIABLE}=1 cargo test -p xtask --test formats bounds"
    );
}
