//! Damage to the files of a backup, and checks that the verification finds it.

use anyhow::Context as _;
use e2e::{Access, Container, Fault, InjectedFault, Lab, check};

use crate::report::{DEADLINE, FOLDER, Report, run};
use crate::world::Place;

/// Undamaged file of the backup, before a fault is injected into it.
pub struct Whole<'a> {
    app: &'a Container,
    name: &'static str,
    bytes: u64,
}

/// Damaged file of the backup, with the fault that is to be healed.
pub struct Damaged {
    name: &'static str,
    fault: InjectedFault,
}

impl<'a> Whole<'a> {
    pub fn of(app: &'a Container, name: &'static str) -> e2e::Result<Self> {
        let size = app.exec(["stat", "-c", "%s", &format!("{FOLDER}/{name}")])?.success()?;
        let bytes = size.stdout_text()?.trim().parse().with_context(|| format!("parsing the size of {name}"))?;
        Ok(Self { app, name, bytes })
    }

    /// Flips one bit in the middle of the file.
    pub fn flip(&self) -> e2e::Result<Damaged> {
        let path = format!("{FOLDER}/{}", self.name);
        let fault = self.app.inject(Fault::FileBitflip { path, offset: self.bytes / 2, bit: 3 })?;
        Ok(Damaged { name: self.name, fault })
    }

    /// Cuts off the second half of the file.
    pub fn truncate(&self) -> e2e::Result<Damaged> {
        let path = format!("{FOLDER}/{}", self.name);
        let fault = self.app.inject(Fault::FileTruncate { path, size_bytes: self.bytes / 2 })?;
        Ok(Damaged { name: self.name, fault })
    }
}

/// Checks that no backup is said to be done where tar on the machine of the files fails, or where it says that it has succeeded and has
/// not, and that nothing of such a backup is left in its place.
pub fn broken_tool(lab: &Lab, app: &Container, files: &Container) -> e2e::Result {
    const TOOL: &str = "/usr/local/bin/tar";
    const CUT: &str = "/srv/backup/cut";
    const FAILED: &str = "/srv/backup/failed";
    let program = Access::mode(0o755);
    files.write_with(TOOL, "#!/bin/sh\n/usr/bin/tar \"$@\" | head --bytes 1000\n", program.clone())?;
    let Report { outcome, problems, .. } = run(lab, app, "create", CUT, "create-cut", DEADLINE)?;
    let named: Vec<&str> = problems.keys().map(String::as_str).collect();
    check!(
        outcome == "refused by the verification" && named == ["files.tar.gz"],
        "an archive that was cut: {problems:?}"
    );

    files.write_with(TOOL, "#!/bin/sh\n/usr/bin/tar \"$@\"\nexit 3\n", program)?;
    let failed = match run(lab, app, "create", FAILED, "create-failed", DEADLINE) {
        Ok(report) => format!("{report:?}"),
        Err(error) => format!("{error:#}"),
    };
    check!(
        failed.contains("tar --create") && failed.contains("on worker ended with status 3"),
        "a tar that fails: {failed}"
    );
    files.exec(["rm", TOOL])?.success()?;
    for folder in [CUT, FAILED] {
        check!(
            app.exec(["test", "-e", folder])?.status == 1,
            "there is no {folder}, which would be taken for a backup"
        );
    }
    Ok(())
}

/// Checks that the verification refuses exactly these files, each for the given reason, and that nothing of the backup was restored; then
/// heals the files.
pub fn refused(
    lab: &Lab,
    app: &Container,
    clean: &Place<'_>,
    action: &str,
    name: &str,
    damaged: impl IntoIterator<Item = (Damaged, &'static str)>,
) -> e2e::Result {
    let (damaged, reasons): (Vec<Damaged>, Vec<&str>) = damaged.into_iter().unzip();
    let report = run(lab, app, action, FOLDER, name, DEADLINE)?;
    let named: Vec<&str> = report.problems.keys().map(String::as_str).collect();
    let names: Vec<&str> = damaged.iter().map(|one| one.name).collect();
    check!(report.outcome == "refused by the verification");
    check!(named == names, "the damaged files are named, and no other");
    for ((name, problems), reason) in report.problems.iter().zip(reasons) {
        let is_named = problems.iter().any(|problem| problem.contains(reason));
        check!(is_named, "{name} is refused, and a reason is {reason:?}: {problems:?}");
    }
    clean.check_nothing()?;
    for one in damaged {
        one.fault.heal()?;
    }
    Ok(())
}
