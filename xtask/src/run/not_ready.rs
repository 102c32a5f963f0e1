//! Lab that did not become ready: finds out who is to blame, and keeps the lab's logs.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::error::Error;
use crate::host::container::lxc::InitEnd;
use crate::host::invoker::Invoker;
use crate::lab::{Asked, Lab, MachineEnd, Missing, WaitError};
use crate::record::{Cause, as_file_name};
use crate::session::blame::{self, Blame};
use crate::session::init_status;

/// Cause of a lab's failure to become ready.
pub(super) enum NotReadyLab {
    /// The product in a machine ended, or did not become ready.
    Product {
        cause: Cause,
        /// Evidence of the end; `None` if no machine ended.
        end: Option<Box<MachineEnd>>,
    },
    /// Failure of the host or the project.
    Other(anyhow::Error),
}

impl NotReadyLab {
    /// Explains the error of waiting for a lab, which must still exist.
    pub fn explain(lab: &Lab, wait: WaitError) -> Self {
        let message = wait.to_string();
        if let WaitError::Ended { end, .. } = &wait {
            let container = end.container.clone();
            return match blame::of_end(end) {
                Blame::Product => {
                    let cause = Cause::MachineEnded { container, process_1: init_status(&end.init), message };
                    Self::Product { cause, end: Some(end.clone()) }
                }
                Blame::Image => Self::Other(of_init(lab, &container, end, &message).into()),
                Blame::Host => Self::Other(wait.of_lab()),
            };
        }
        let Some(not_ready) = lab.diagnose(&wait) else { return Self::Other(wait.of_lab()) };
        let message = format!("{message}{}", not_ready.diagnosis);
        let container = not_ready.container.clone();
        match (blame::of_not_ready(&not_ready), not_ready.asked) {
            (Blame::Product, _) => Self::Product { cause: Cause::NotReady { container, message }, end: None },
            (Blame::Image, Asked::ProgramMissing { program }) => {
                let problem = format!("the probe's program {program:?}");
                Self::Other(not_in_image(lab, &container, &problem).into())
            }
            (_, Asked::LayerDamaged { program, layer }) => Self::Other(layer.error(&program).into()),
            (Blame::Host | Blame::Image, _) => Self::Other(wait.of_lab().context(message)),
        }
    }

    /// Turns the failure into an error, for a lab without a case.
    pub fn into_error(self) -> anyhow::Error {
        match self {
            Self::Product { cause, .. } => anyhow::Error::msg(cause.to_string()),
            Self::Other(error) => error,
        }
    }
}

/// Returns the error for a process 1 that could not be executed: the template is to blame, unless a layer of its image was changed.
fn of_init(lab: &Lab, container: &str, end: &MachineEnd, message: &str) -> Error {
    if let InitEnd::NotExecutable { program, .. } = &end.init
        && let Some(Missing::InLayer(layer)) = lab.container(container).and_then(|it| it.missing_in_layers(program))
    {
        return layer.error(program);
    }
    not_in_image(lab, container, message)
}

fn not_in_image(lab: &Lab, container: &str, problem: &str) -> Error {
    let template = lab.container(container).map_or(container, |container| container.machine().template.name.as_str());
    Error::Usage(format!("containers/{template}/template.toml: the layer lacks what the template names: {problem}"))
}

/// Writes the logs of a lab without a case to a folder below the project's `target/`, replacing those of the last such lab in this slot;
/// returns the folder.
pub(super) fn keep_logs(root: &Path, slot: &str, lab: &Lab) -> anyhow::Result<PathBuf> {
    let (invoker, folder) = (Invoker::find(), root.join("target/e2e-up").join(slot));
    let made = invoker.act(|| {
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        for container in lab.containers() {
            std::fs::create_dir_all(folder.join(&container.machine().name))?;
        }
        Ok(())
    });
    made.with_context(|| format!("making {}", folder.display()))?;
    for container in lab.containers() {
        let own = folder.join(&container.machine().name);
        for log in container.collect_logs(lab.streams_dir()) {
            let content = log.content.unwrap_or_else(|error| format!("not collected: {error}\n").into_bytes());
            invoker.replace(&own.join(as_file_name(&log.name)), &content)?;
        }
    }
    Ok(folder)
}
