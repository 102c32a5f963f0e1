//! Check for doctor that creates a lab of one machine, runs a program in it, and takes it down: a test of all requirements together.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};

use crate::error::Error;
use crate::guard::{Guard, Make, Slot, Wait};
use crate::host::container::ids::{IdRange, Ids};
use crate::host::doctor::static_busybox;
use crate::host::patience::Deadline;
use crate::host::undo::Undo;
use crate::lab::{ExecRequest, Lab, Machine, WaitError};
use crate::manifest::{Init, Limits, Network, Origin, Ssh, Template};

/// Slot of the labs of this check; no run can use a slot of this name.
const SLOT: &str = "doctor";

/// Deadline for another `doctor` process to release the slot.
const WAIT_DEADLINE: Deadline = Deadline::from_secs(60);

/// Deadline for the program that is run in the machine.
const EXEC_DEADLINE: Deadline = Deadline::from_secs(30);

/// Word that the program in the machine has to print.
const WORD: &str = "mancer-e2e-doctor";

/// Programs in the machine: links to its busybox.
const PROGRAMS: [&str; 4] = ["sh", "true", "echo", "sleep"];

/// Reason why the check did not pass.
#[derive(Debug, thiserror::Error)]
pub enum LabCheckError {
    /// No lab was tried: the host has no static busybox, or another `doctor` process holds the slot.
    #[error("{0:#}")]
    NotTried(anyhow::Error),
    /// Creating, using or removing the lab failed.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// Creates a lab of one machine with the host's busybox, runs a program in it, and takes it down; returns how long that took. Needs no
/// layer and no network access.
pub fn check_lab(network: Network, ids: &Ids) -> Result<Duration, LabCheckError> {
    let Some(busybox) = static_busybox() else {
        return Err(LabCheckError::NotTried(anyhow!("this host has no statically linked busybox")));
    };
    let begun = Instant::now();
    let slot = Slot::named(SLOT);
    let ids = ids.of_slot(SLOT).map_err(LabCheckError::NotTried)?;
    let guard = Guard::start(slot, "doctor", Wait::UntilFree, |_| Ok(()), &|| begun.elapsed() > WAIT_DEADLINE.scaled());
    let guard = Arc::new(guard.map_err(|error| match Error::of(&error) {
        Some(Error::Interrupted) => {
            LabCheckError::NotTried(error.context(format!("slot {SLOT} was not free within {WAIT_DEADLINE}")))
        }
        _ => LabCheckError::Failed(error),
    })?);
    let begun = Instant::now();
    let used = use_lab(&guard, &busybox, network, ids);
    let down = guard.down().context("taking the lab down");
    used.and(down).map_err(LabCheckError::Failed)?;
    Ok(begun.elapsed())
}

fn use_lab(guard: &Arc<Guard>, busybox: &Path, network: Network, ids: IdRange) -> anyhow::Result<()> {
    let layer = guard.slot().dir().join("layer");
    let root = layer.join("root");
    let folder = |path: &PathBuf, id: u32| Make::Dir { path: path.clone(), mode: 0o755, owner: (id, id) };
    // The folders are the guard's: whatever becomes of this process, they go with all that they hold.
    guard.make(vec![folder(&layer, 0), folder(&root, ids.first)])?;
    fill(&root, busybox, ids.first).context("making the root filesystem of the test container")?;
    let machine = machine(root, network, ids);
    guard.note(vec![Undo::RemoveMarked { path: machine.log_dir(), slot: SLOT.to_owned() }])?;
    let lab = Lab::start(guard, &[machine], &|_| ())?;
    lab.wait_until_ready(&|_| (), &|| false).map_err(WaitError::of_lab)?;
    let container = lab.containers().first().context("the lab has no container")?;
    let request = ExecRequest {
        argv: ["/bin/echo", WORD].map(str::to_owned).to_vec(),
        deadline: EXEC_DEADLINE.scaled(),
        streams_dir: lab.streams_dir().to_owned(),
        ..ExecRequest::default()
    };
    let output = container.exec(&request)?;
    let said = output.stdout.text().unwrap_or_default();
    if let Some(failure) = output.failure() {
        bail!("a program in the test container {failure}");
    }
    if said.trim() != WORD {
        bail!("a program in the test container printed {said:?} instead of {WORD:?}");
    }
    Ok(())
}

/// Creates the smallest file tree that a machine can run on, owned by the container's root.
fn fill(root: &Path, busybox: &Path, owner: u32) -> std::io::Result<()> {
    let own = |path: &Path| lchown(path, Some(owner), Some(owner));
    for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        let path = root.join(folder);
        fs::create_dir(&path)?;
        own(&path)?;
    }
    let program = root.join("bin/busybox");
    fs::copy(busybox, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    own(&program)?;
    for name in PROGRAMS {
        let link = root.join("bin").join(name);
        symlink("busybox", &link)?;
        own(&link)?;
    }
    let users = root.join("etc/passwd");
    fs::write(&users, "root:x:0:0:root:/root:/bin/sh\n")?;
    own(&users)
}

fn machine(root: PathBuf, network: Network, ids: IdRange) -> Machine {
    let template = Template {
        name: SLOT.to_owned(),
        file: root.clone(),
        from: Origin::Scratch,
        packages: Vec::new(),
        pip: None,
        files: Vec::new(),
        users: Vec::new(),
        run: Vec::new(),
        enable: Vec::new(),
        mask: Vec::new(),
        init: Init::Command(["/bin/sleep", "3600"].map(str::to_owned).to_vec()),
        volumes: Vec::new(),
        limits: Limits { memory: 32 << 20, cpus: 1.0, pids: 64, disk: 8 << 20 },
        probes: Vec::new(),
        logs: Vec::new(),
        environment: Vec::new(),
        ssh: Ssh::default(),
        privileged: false,
        allow: Vec::new(),
    };
    let host_name = format!("mancer-e2e-{SLOT}");
    Machine {
        name: SLOT.to_owned(),
        host_name,
        template,
        layers: vec![root],
        first_ids: Vec::new(),
        network,
        octet: 11,
        ids,
    }
}
