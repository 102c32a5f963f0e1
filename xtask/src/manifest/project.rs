//! `e2e.toml`: the project's name and settings. Also the whole project, with all manifests read and checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::defaults::DefaultsTable;
use super::network::{Network, ORDERED_FIRST, ORDERED_MAX, OTHERS_FIRST, parse_network};
use super::parse::{Source, is_name, nearest};
use super::range::{CaseTime, FirstId, PackageName, PinnedPackage, ProgramName, ProjectFolder, Within, within};
use super::secrets::{DeclaredSecrets, SecretsTable, secrets_table};
use super::{Origin, Scenario, Template};
use crate::error::Error;
use crate::input;

/// Maximum length of a project's name, so that names of containers stay short enough for the host.
pub(super) const NAME_CHARACTERS_MAX: usize = 20;

/// Number of user ids that a container with a whole operating system needs.
const IDS_OF_A_SYSTEM: u32 = 65_536;

/// A project: `e2e.toml` with all manifests that belong to it.
#[derive(Debug, Clone)]
pub struct Project {
    /// Folder of `e2e.toml`.
    pub root: PathBuf,
    /// Prefix of the names of containers, and of cgroup and state folders.
    pub name: String,
    /// Names of containers in a fixed order: the position gives a container its address, and `--e2e-containers` its new name.
    pub container_order: Vec<String>,
    /// Deadline of a case whose scenario has no timeout of its own.
    pub timeout: Duration,
    /// Network of every lab, each in a network namespace of its own.
    pub network: Network,
    /// First user id on the host of the range that the project's labs and layers take.
    pub first_id: u32,
    pub containers_dir: PathBuf,
    pub scenarios_dir: PathBuf,
    /// Name of the Cargo package with the scenarios' binaries.
    pub scenarios_package: String,
    /// Package whose coverage is collected, and its probes.
    pub coverage: DeclaredCoverage,
    /// Secrets that the project declares.
    pub secrets: DeclaredSecrets,
    pub templates: BTreeMap<String, Template>,
    /// Scenarios, by category and name.
    pub scenarios: Vec<Scenario>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ids {
    /// The first of 16777216 ids: 65536 for the layers, and 65536 for each slot. A multiple of 65536.
    #[serde(deserialize_with = "within::<FirstId, _>")]
    first: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Prefix of the names of containers, and of what the engine makes on the host: up to 20 of a-z, 0-9, '-' and '_'.
    name: Spanned<String>,
    /// Names of containers in a fixed order: the position in this list gives a container its address (11, 12, ... in the last octet), and
    /// `--e2e-containers` its new name.
    #[serde(default)]
    containers: Vec<Spanned<String>>,
    /// Deadline of a case whose scenario has no `timeout` of its own.
    #[serde(deserialize_with = "within::<CaseTime, _>", default = "default_timeout")]
    timeout: Duration,
    /// Network of 256 private addresses that every lab has, each in a network namespace of its own.
    #[serde(default = "default_network")]
    network: Spanned<String>,
    /// User ids of the host that labs take, a range for each slot. Needed only where users or containers of the host have the default ids
    /// already.
    #[serde(default = "default_ids")]
    ids: Spanned<Ids>,
    /// Folders of templates and scenarios.
    #[serde(default)]
    paths: Paths,
    /// Name of the Cargo package with the scenarios' binaries. It is needed only if a scenario has no `command`.
    #[serde(default = "default_package")]
    #[serde(deserialize_with = "within::<PackageName, _>")]
    scenarios_package: String,
    /// Secrets that scenarios need, and shapes of other secrets that bundles leave out.
    #[serde(deserialize_with = "secrets_table", default)]
    secrets: SecretsTable,
    /// Coverage of a Python product, which `cargo xtask e2e --coverage` collects.
    #[serde(default)]
    coverage: CoverageTable,
    /// Values of command-line options and environment variables that are not given.
    #[serde(default, rename = "defaults")]
    _defaults: DefaultsTable,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Paths {
    /// The folder of templates, relative to that of `e2e.toml`.
    #[serde(deserialize_with = "within::<ProjectFolder, _>")]
    containers: String,
    /// The folder of scenarios, relative to that of `e2e.toml`.
    #[serde(deserialize_with = "within::<ProjectFolder, _>")]
    scenarios: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CoverageTable {
    /// The package that `--coverage` means where it names none: `TEMPLATE.PACKAGE`, one that the template pins.
    of: Option<Within<PinnedPackage>>,
    /// File names of programs that only try known defects. Functions that they alone call are counted apart.
    probes: Vec<Within<ProgramName>>,
}

/// Coverage of a project's Python product.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeclaredCoverage {
    /// Package that `--coverage` means where it names none, as `TEMPLATE.PACKAGE`.
    pub of: Option<String>,
    /// File names of programs that only try known defects.
    pub probes: Vec<String>,
}

impl Default for Paths {
    fn default() -> Self {
        Self { containers: "containers".into(), scenarios: "scenarios".into() }
    }
}

fn default_timeout() -> Duration {
    Project::TIMEOUT
}

fn default_network() -> Spanned<String> {
    Spanned::new(0..0, "10.77.0.0/24".into())
}

fn default_ids() -> Spanned<Ids> {
    Spanned::new(0..0, Ids { first: Project::FIRST_ID })
}

fn default_package() -> String {
    "scenarios".into()
}

impl Project {
    /// Deadline of a case where neither a flag nor a file sets one.
    pub const TIMEOUT: Duration = Duration::from_secs(300);

    /// First user id of labs where `e2e.toml` sets none: right above the ids of systemd's containers, 524288 to 1879048191, and above the
    /// ids that `useradd` reserves for users' containers, 100000 to 600100000.
    pub const FIRST_ID: u32 = 1_879_048_192;

    /// Reads and checks every manifest below `root`.
    ///
    /// # Errors
    /// [`Error::BadFile`] for the first manifest that cannot be used, [`Error::Usage`] when there is no project.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let path = root.join("e2e.toml");
        if !input::exists(&path)? {
            return Err(Error::Usage(format!(
                "{} does not exist: run this in the folder of a project, or name it with --root DIR",
                path.display()
            ))
            .into());
        }
        let source = Source::read(&path)?;
        let file: File = source.parse()?;
        let name = file.name.get_ref().clone();
        if !is_name(&name) || name.len() > NAME_CHARACTERS_MAX {
            return Err(source
                .error_at(&file.name, "a project's name is up to 20 of a-z, 0-9, '-' and '_', a letter first")
                .into());
        }
        for (place, container) in file.containers.iter().enumerate() {
            let name = container.get_ref();
            let problem = if !is_name(name) {
                format!("{name:?} is not the name of a container: up to 32 of a-z, 0-9, '-' and '_', a letter first")
            } else if file.containers[..place].iter().any(|other| other.get_ref() == name) {
                format!("{name:?} is listed twice: each place has an address of its own")
            } else if place >= ORDERED_MAX {
                format!(
                    "at most {ORDERED_MAX} containers have a place of their own: their addresses are {ORDERED_FIRST} to {} in the \
                     last octet, and those of all others begin at {OTHERS_FIRST}",
                    OTHERS_FIRST - 1
                )
            } else {
                continue;
            };
            return Err(source.error_at(container, problem).into());
        }
        let network = parse_network(file.network.get_ref()).ok_or_else(|| {
            source.error_at(&file.network, "a network is written \"10.77.0.0/24\": 256 private addresses")
        })?;
        let first_id = file.ids.get_ref().first;
        if !first_id.is_multiple_of(IDS_OF_A_SYSTEM) {
            let message =
                format!("{first_id} is not a multiple of {IDS_OF_A_SYSTEM}: each slot has a whole range of that size");
            return Err(source.error_at(&file.ids, message).into());
        }
        let secrets = file.secrets.declared(&source, root)?;
        let containers_dir = root.join(file.paths.containers);
        let scenarios_dir = root.join(file.paths.scenarios);
        let templates = Template::read_all(&containers_dir)?;
        let scenarios = Scenario::read_all(&scenarios_dir, &templates, file.timeout)?;
        Ok(Self {
            root: root.to_owned(),
            name,
            container_order: file.containers.into_iter().map(Spanned::into_inner).collect(),
            timeout: file.timeout,
            network,
            first_id,
            containers_dir,
            scenarios_dir,
            scenarios_package: file.scenarios_package,
            coverage: DeclaredCoverage {
                of: file.coverage.of.map(|of| of.0),
                probes: file.coverage.probes.into_iter().map(|name| name.0).collect(),
            },
            secrets,
            templates,
            scenarios,
        })
    }

    /// Returns the same project with the templates of another folder, such as an earlier version's.
    ///
    /// # Errors
    /// [`Error::BadFile`] for the first template that cannot be used, or for a scenario whose template is missing there.
    pub fn with_containers(&self, containers_dir: &Path) -> anyhow::Result<Self> {
        let templates = Template::read_all(containers_dir)?;
        let scenarios = Scenario::read_all(&self.scenarios_dir, &templates, self.timeout)?;
        Ok(Self { containers_dir: containers_dir.to_owned(), templates, scenarios, ..self.clone() })
    }

    /// Returns the template of this name.
    ///
    /// # Errors
    /// [`Error::Usage`] with the most similar name when there is none.
    pub fn template(&self, name: &str) -> Result<&Template, Error> {
        self.templates.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.templates.keys().map(String::as_str).collect();
            let hint = match nearest(name, known.iter().copied()) {
                Some(near) => format!(": did you mean {near}?"),
                None if known.is_empty() => String::new(),
                None => format!(": there are {}", known.join(", ")),
            };
            Error::Usage(format!("there is no template {name} in {}{hint}", self.containers_dir.display()))
        })
    }

    /// Returns the template of this name with all templates below it, lowest first.
    ///
    /// # Errors
    /// As [`Self::template`].
    pub fn chain(&self, name: &str) -> Result<Vec<&Template>, Error> {
        let mut chain = vec![self.template(name)?];
        while let Some(Template { from: Origin::Template(parent), .. }) = chain.last() {
            chain.push(self.template(parent)?);
        }
        chain.reverse();
        Ok(chain)
    }

    /// Returns the last octet of a container's address: by its place in `containers` of `e2e.toml`, else by its position in the scenario.
    #[must_use]
    pub fn address_octet(&self, container: &str, position: usize) -> u8 {
        let known = self.container_order.iter().position(|name| name == container);
        let octet = known.map_or(OTHERS_FIRST + position, |place| ORDERED_FIRST + place);
        u8::try_from(octet).unwrap_or(254)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(e2e_toml: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("containers")).unwrap();
        std::fs::create_dir_all(folder.path().join("scenarios")).unwrap();
        std::fs::write(folder.path().join("e2e.toml"), e2e_toml).unwrap();
        let shown = match Project::read(folder.path()) {
            Ok(project) => format!("ok {} {}", project.name, project.network.host(11)),
            Err(error) => error.to_string().replace(&format!("{}/", folder.path().display()), ""),
        };
        assert!(shown.starts_with(expected), "{e2e_toml}\n  gave     {shown}\n  expected {expected}");
    }

    #[test]
    fn project_files() {
        check("name = 'mancer-e2e'", "ok mancer-e2e 10.77.0.11");
        check("name = 'x'\nnetwork = '192.168.7.0/24'", "ok x 192.168.7.11");
        check("", "e2e.toml:1:1: missing field `name`");
        check("name = 'a b'", "e2e.toml:1:8: a project's name");
        check("name = 'x'\nnet = 1", "e2e.toml:2:1: unknown field `net`");
        check("name = 'x'\nnetwork = '8.8.8.0/24'", "e2e.toml:2:11: a network is written");
        check("name = 'x'\ntimeout = '0s'", "e2e.toml:2:11: \"0s\" is not a duration from \"100ms\" to \"1day\"");
        check(
            "name = 'x'\nids = {first = 1000}",
            "e2e.toml:2:16: 1000 is not a whole number from 1879048192 to 2130575360",
        );
        check("name = 'x'\nids = {first = 1879048193}", "e2e.toml:2:7: 1879048193 is not a multiple of 65536");
        check("name = 'x'\nids = {first = 1879113728, count = 65536}", "e2e.toml:2:28: unknown field `count`");
        check("name = 'x'\nids = {first = 1879113728}", "ok x");
        check("name = 'x", "e2e.toml:1:");
        check("name = 'x'\n[defaults]\nretries = 1", "ok x");
        check("name = 'x'\n[defaults]\nretry = 1", "e2e.toml:3:1: unknown field `retry`");
        check("name = 'x'\n[secrets]\nshapes = ['SESSION_ID', '/cust-[0-9]{6}/']\nvariables = ['API_TOKEN']", "ok x");
        check("name = 'x'\n[secrets]\nfiles = { KEY = 'keys/a' }", "ok x");
    }

    #[test]
    fn a_folder_without_a_project_says_how_to_name_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Project::read(folder.path()).unwrap_err().to_string().contains("--root DIR"));
    }
}
