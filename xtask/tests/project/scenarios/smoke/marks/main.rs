//! Scenario that marks known defects wrongly, in the way that the case names.

use std::process::ExitCode;

use anyhow::bail;
use e2e::{Lab, Result, check, failing_with};

fn main() -> ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> Result {
    let a = lab.container("a")?;
    let fails_as_expected = || {
        a.sh("echo 'as ever' >&2; exit 1")?.success()?;
        Ok(())
    };
    if lab.case() == "not_looked_at" {
        return Ok(());
    }
    match lab.case() {
        "fixed" => lab.known_defect("selftest-1/listed", failing_with("as ever"), || Ok(())),
        "different" => lab.known_defect("selftest-1/listed", failing_with("as never"), fails_as_expected),
        "different_and_swallowed" => {
            let _ = lab.known_defect("selftest-1/listed", failing_with("as never"), fails_as_expected);
            Ok(())
        }
        "covers_a_check" => lab.known_defect("selftest-1/listed", failing_with("as ever"), || {
            let looks = || -> Result {
                check!(1 + 1 == 3, "another thing");
                Ok(())
            };
            let _ = looks();
            fails_as_expected()
        }),
        "not_listed" => {
            lab.known_defect("selftest-1/listed", failing_with("as ever"), fails_as_expected)?;
            lab.known_defect("selftest-1/new", failing_with("as ever"), fails_as_expected)
        }
        other => bail!("there is no case {other}"),
    }
}
