//! Payload: the files that are copied into a guest (the engine, projects, and the programs of their scenarios).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::order::Project;
use crate::host::exec::shell::Command;
use crate::host::invoker::Invoker;
use crate::host::patience::Deadline;

const COPY_DEADLINE: Deadline = Deadline::from_secs(120);

/// Templates of the engine's own test project that run busybox.
const SMALL_TEMPLATES: [&str; 2] = ["mini", "minidisk"];

/// Path of the engine's own test project, relative to the checkout.
const TEST_PROJECT: &str = "xtask/tests/project";

/// Sources from which a payload is copied.
#[derive(Debug)]
pub struct Payload<'a> {
    /// Checkout of the repository, from which projects are copied.
    pub root: &'a Path,
    /// Folder with the scenarios' built programs.
    pub programs: &'a Path,
    pub engine: &'a Path,
    /// User who owns the copied files.
    pub invoker: &'a Invoker,
}

/// Choice of the projects that a payload contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The engine's own test project with its busybox templates.
    Small,
    /// The test project, and the project of the checkout with all templates.
    Whole,
}

impl Payload<'_> {
    /// Copies the payload into a new folder.
    pub fn lay_out(&self, folder: &Path, extent: Extent) -> anyhow::Result<()> {
        let make = |path: &Path| {
            self.invoker
                .act(|| Ok(std::fs::create_dir_all(path)?))
                .with_context(|| format!("making {}", path.display()))
        };
        for path in ["programs", "repo/containers", "repo/xtask/tests/project"] {
            make(&folder.join(path))?;
        }
        self.copy(&[self.engine.to_owned()], &folder.join("engine"))?;
        let test_project = self.root.join(TEST_PROJECT);
        let own = ["e2e.toml", "scenarios"].map(|name| test_project.join(name));
        self.copy(&own, &folder.join("repo").join(TEST_PROJECT))?;
        let mut programs = scenario_programs(&test_project.join("scenarios"), self.programs);
        let containers = self.root.join("containers");
        match extent {
            Extent::Small => {
                self.copy(&SMALL_TEMPLATES.map(|name| containers.join(name)), &folder.join("repo/containers"))?;
            }
            Extent::Whole => {
                let whole = ["e2e.toml", "containers", "scenarios"].map(|name| self.root.join(name));
                self.copy(&whole, &folder.join("repo"))?;
                programs.extend(scenario_programs(&self.root.join("scenarios"), self.programs));
            }
        }
        ensure!(!programs.is_empty(), "{} has no program of a scenario", self.programs.display());
        self.copy(&programs, &folder.join("programs"))
    }

    fn copy(&self, from: &[PathBuf], to: &Path) -> anyhow::Result<()> {
        let command = Command::new("cp").args(["--recursive", "--preserve=mode", "--"]).args(from).arg(to);
        command.as_user(self.invoker).dir("/").deadline(COPY_DEADLINE.scaled()).run()?;
        Ok(())
    }
}

/// Returns the built programs of the scenarios whose sources lie in a folder.
fn scenario_programs(scenarios: &Path, programs: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(scenarios).min_depth(2).max_depth(2).sort_by_file_name();
    let names = entries.into_iter().filter_map(Result::ok).map(|entry| entry.file_name().to_owned());
    names.map(|name| programs.join(name)).filter(|program| program.is_file()).collect()
}

/// Returns the test project and the checkout's project of a payload, as the guest sees them.
#[must_use]
pub fn projects(folder: &Path, programs: &Path) -> (Project, Project) {
    let project = |root: PathBuf| Project { root, programs: programs.to_owned() };
    (project(folder.join(TEST_PROJECT)), project(folder.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_the_engine_the_project_and_its_programs() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("built");
        std::fs::create_dir(&programs).unwrap();
        for name in ["who_am_i", "data_ingestion", "unrelated", "engine"] {
            std::fs::write(programs.join(name), name).unwrap();
        }
        let engine = programs.join("engine");
        let invoker = Invoker::find();
        let payload = Payload { root, programs: &programs, engine: &engine, invoker: &invoker };
        let has = |folder: &Path, path: &str| folder.join(path).exists();
        let small = folder.path().join("small");
        payload.lay_out(&small, Extent::Small).unwrap();
        for path in ["engine", "programs/who_am_i", "repo/containers/mini/template.toml"] {
            assert!(has(&small, path), "{path}");
        }
        assert!(has(&small, "repo/xtask/tests/project/scenarios/smoke/who_am_i/scenario.toml"));
        for path in ["programs/unrelated", "programs/data_ingestion", "repo/e2e.toml", "repo/containers/base"] {
            assert!(!has(&small, path), "{path}");
        }
        let whole = folder.path().join("whole");
        payload.lay_out(&whole, Extent::Whole).unwrap();
        for path in ["programs/data_ingestion", "programs/who_am_i", "repo/e2e.toml", "repo/containers/base"] {
            assert!(has(&whole, path), "{path}");
        }
    }
}
