//! Scenario that marks known defects wrongly, in the way that the case names.

use std::process::ExitCode;

use anyhow::bail;
use e2e::{DefectMark, Lab, Result, check, failing_with};

fn main() -> ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> Result {
    let a = lab.container("a")?;
    let fails_as_expected = |_: &DefectMark| {
        a.sh("echo 'as ever' >&2; exit 1")?.success()?;
        Ok(())
    };
    if lab.case() == "not_looked_at" {
        return Ok(());
    }
    match lab.case() {
        "fixed" => lab.known_defect("selftest-1/listed", failing_with("as ever"), |mark| {
            mark.observed(format!("a has {} users", a.sh("wc -l < /etc/passwd")?.success()?.stdout_text()?.trim()));
            Ok(())
        }),
        "unobserved" => lab.known_defect("selftest-1/listed", failing_with("as ever"), |_| Ok(())),
        "different" => {
            lab.known_defect("selftest-1/listed", failing_with("as never"), fails_as_expected)?;
            check!(1 + 1 == 3, "the scenario goes on after the mark");
            Ok(())
        }
        "covers_a_check" => lab.known_defect("selftest-1/listed", failing_with("as ever"), |mark| {
            let looks = || -> Result {
                check!(1 + 1 == 3, "another thing");
                Ok(())
            };
            let _ = looks();
            fails_as_expected(mark)
        }),
        "not_listed" => {
            lab.known_defect("selftest-1/listed", failing_with("as ever"), fails_as_expected)?;
            lab.known_defect("selftest-1/new", failing_with("as ever"), fails_as_expected)
        }
        other => bail!("there is no case {other}"),
    }
}
