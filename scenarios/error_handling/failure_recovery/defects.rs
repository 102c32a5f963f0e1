//! What a program that must survive failures would like to use of Mancer 0.1.4, and cannot.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use e2e::{Container, Lab, failing_with};

/// Defects with a piece of what `fixtures/defects.py` says of them.
const DEFECTS: [(&str, &str); 4] = [
    ("mancer-0.1.4/backend-timeout", "a time-out of 0.2 s acted when the command had ended by itself"),
    ("mancer-0.1.4/cache-keeps-failures", "the failure of a moment ago is given out again"),
    ("mancer-0.1.4/enforcer-on-error", "the handler of a failed command was not called"),
    ("mancer-0.1.4/enforcer-validator", "a result that its validator refuses is a success"),
];

/// Shows each defect; all probes in one start of Python, which takes longer than any of them.
pub fn show(lab: &Lab, app: &Container) -> e2e::Result {
    app.put(lab.fixture("defects.py"), "/srv/transfer/defects.py")?;
    let probes = "python3 /srv/transfer/defects.py /tmp/defects.json > /tmp/defects.log 2>&1";
    app.command(["/bin/sh", "-c", &format!("{probes} || {{ tail -n 5 /tmp/defects.log >&2; exit 1; }}")])
        .user("mancer")
        .run()?
        .success()?;
    let text = app.get("/tmp/defects.json")?;
    let failures: BTreeMap<String, Option<String>> = serde_json::from_slice(&text).context("defects.json")?;
    for (name, expected) in DEFECTS {
        lab.known_defect(name, failing_with(expected), || match failures.get(name) {
            Some(Some(failure)) => bail!("{failure}"),
            Some(None) => Ok(()),
            None => bail!("defects.py has no probe for it"),
        })?;
    }
    Ok(())
}
