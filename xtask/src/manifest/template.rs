//! `containers/NAME/template.toml`: the recipe of a container's root filesystem, and how the container runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e_contract::{Condition, is_absolute_path};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::parse::{Entries, Place, Source, bytes_as_text, is_name, mode, nearest};
use super::range::{
    CommandWord, DiskSize, HttpTarget, LogPattern, MachinePath, MemorySize, OwnerName, PackageFolder, Port, ProbeTime,
    ProcessCount, ProcessorCount, PythonVersion, ShellPath, UnitName, UserId, UserName, VariableName, VariableValue,
    VolumePath, VolumeSize, Within, each_within, within,
};
use crate::error::Error;
use crate::host::seccomp::Part;
use crate::input;

/// Maximum number of volumes of a container.
const VOLUMES_MAX: usize = 32;

/// A template from its file, checked.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Template {
    /// Name of the template, which is that of its folder.
    pub name: String,
    /// File of the template, or of the mutant that changes it.
    #[serde(default)]
    pub file: PathBuf,
    /// Origin of the root filesystem.
    pub from: Origin,
    /// Debian packages added to the root filesystem.
    pub packages: Vec<String>,
    /// Python packages added to the root filesystem.
    pub pip: Option<Pip>,
    /// Files copied into the root filesystem.
    pub files: Vec<FileEntry>,
    /// Users made in the root filesystem, before the files are copied.
    pub users: Vec<UserEntry>,
    /// Commands run in the root filesystem, after everything else was put there.
    pub run: Vec<RunStep>,
    /// systemd units that start with the container.
    pub enable: Vec<String>,
    /// systemd units that never start.
    pub mask: Vec<String>,
    /// Program of process 1 in a container.
    pub init: Init,
    /// File systems that are mounted in a container, each with a size of its own.
    pub volumes: Vec<Volume>,
    /// Resource limits of one container.
    pub limits: Limits,
    /// Probes that all pass once a container is ready.
    pub probes: Vec<Probe>,
    /// Files to collect after a case, by absolute path with the shell's wildcards.
    pub logs: Vec<String>,
    /// Environment of every program started in a container.
    pub environment: Vec<(String, String)>,
    /// SSH keys and host keys that the lab hands out.
    pub ssh: Ssh,
    /// True if root in the container is root of the host, of which each run warns.
    pub privileged: bool,
    /// Parts of the kernel that the containers may use although most containers may not; the record of each run names them.
    #[serde(default)]
    pub allow: Vec<Part>,
}

/// Origin of a template's root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub enum Origin {
    Scratch,
    /// Another template, by name.
    Template(String),
    /// A root filesystem in a tar file, as `docker export` writes it.
    Tar(PathBuf),
    /// A Debian release, by its code name, installed with mmdebstrap's minbase variant.
    Debian(String),
}

/// Python packages, installed from a requirements file with hashes into a folder of the root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Pip {
    /// Absolute path of the requirements file on the host.
    pub requirements: PathBuf,
    /// Folder in the container into which the packages are put.
    pub target: String,
    /// Python version of the container, such as `3.11`.
    pub python: String,
}

/// A file or folder copied into the root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct FileEntry {
    /// Source of the content.
    pub source: FileSource,
    /// Absolute path of the copy in the container.
    pub target: String,
    /// Permission bits of every file; `None`: 0755 for files that anybody may execute, 0644 for others. The other bits of a source depend
    /// on its user's umask, and are not copied.
    pub mode: Option<u32>,
    /// Owner in the container, as `user` or `user:group`, by name or number.
    pub owner: Option<String>,
    /// Place of the source in the template's file, for errors.
    pub place: Place,
}

/// Source of a copied file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub enum FileSource {
    /// A file or folder, by its absolute path on the host.
    Path(PathBuf),
    /// A program of the host by its name: it is found by `PATH`, since its folder differs between distributions.
    Program(String),
}

/// A command that is run while a layer is built.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged, expecting = "a command is a line for the shell, or a list of a program and its arguments")]
pub enum RunStep {
    /// A line for the template's own `/bin/sh`.
    Shell(String),
    /// A program with its arguments, for a root filesystem that has no shell yet.
    Program(Vec<String>),
}

/// A user in the root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UserEntry {
    /// Login name.
    #[serde(deserialize_with = "within::<UserName, _>")]
    pub name: String,
    /// Id of the user and of the group: fixed, so that layers are equal wherever they are built.
    #[serde(deserialize_with = "within::<UserId, _>")]
    pub uid: u32,
    /// Login shell.
    #[serde(default = "default_shell", deserialize_with = "within::<ShellPath, _>")]
    pub shell: String,
    /// Names of further groups, which exist already.
    #[serde(default, deserialize_with = "each_within::<UserName, _>")]
    pub groups: Vec<String>,
}

/// Program of process 1 in a container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub enum Init {
    /// systemd, as `/sbin/init`.
    Systemd,
    /// Another program with its arguments.
    Command(Vec<String>),
}

/// A file system with a size of its own, mounted in the container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Absolute path in the container; what the template has there is copied into the new volume.
    #[serde(deserialize_with = "within::<VolumePath, _>")]
    pub path: String,
    /// Size of the volume.
    #[serde(deserialize_with = "within::<VolumeSize, _>", serialize_with = "bytes_as_text")]
    pub size: u64,
    /// Storage of the volume: an image on a disk with ext4, or memory with tmpfs.
    #[serde(default = "default_kind")]
    pub kind: VolumeKind,
}

/// Storage of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeKind {
    /// ext4 on a loop image.
    Ext4,
    /// tmpfs in memory.
    Tmpfs,
}

/// Resource limits of one container.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Maximum memory, cached files and tmpfs included.
    #[serde(deserialize_with = "within::<MemorySize, _>", serialize_with = "bytes_as_text")]
    pub memory: u64,
    /// Number of processors; 0.5 is half of one. Where the host is itself a container, at most its quota.
    #[serde(deserialize_with = "within::<ProcessorCount, _>")]
    pub cpus: f64,
    /// Maximum number of processes and threads.
    #[serde(deserialize_with = "within::<ProcessCount, _>")]
    pub pids: u32,
    /// Maximum that the container writes outside its volumes, which is memory too.
    #[serde(deserialize_with = "within::<DiskSize, _>", serialize_with = "bytes_as_text")]
    pub disk: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 512 << 20, cpus: 1.0, pids: 512, disk: 256 << 20 }
    }
}

/// A condition that must hold before a container counts as ready.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Probe {
    pub condition: Condition,
    /// Deadline for the condition, from the container's start.
    pub timeout: Duration,
}

/// SSH logins between a lab's machines. The lab makes the keys at a container's first start; no layer holds one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ssh {
    /// Users that get a key pair of their own and know the host keys of all servers of the lab.
    #[serde(deserialize_with = "each_within::<UserName, _>")]
    pub clients: Vec<String>,
    /// Users that every client of the lab may log in as. The container gets a host key.
    #[serde(deserialize_with = "each_within::<UserName, _>")]
    pub accepts: Vec<String>,
}

fn default_shell() -> String {
    "/bin/sh".into()
}

fn default_kind() -> VolumeKind {
    VolumeKind::Ext4
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Origin of the file system: the name of another template, `"scratch"` for an empty tree, `{ debian = "bookworm"
    /// }` for a Debian release by its code name, or `{ tar = "FILE" }` for a root filesystem as `docker export` writes
    /// it, relative to the template's folder.
    from: Spanned<FromKey>,
    /// Debian packages to add.
    #[serde(default)]
    packages: Vec<Spanned<String>>,
    /// Python packages to add.
    pip: Option<PipTable>,
    /// Files and folders to copy into the file system, in this order.
    #[serde(default)]
    files: Vec<Spanned<FileTable>>,
    /// Users to make, before the files are copied.
    #[serde(default)]
    users: Vec<Spanned<UserEntry>>,
    /// Commands to run in the file system, one after the other, when everything else is there: a line for the template's own `/bin/sh`, or
    /// a list of a program by its absolute path and its arguments. They reach the network through slirp4netns, and nothing that listens
    /// at the loopback of the host. In a template with `[pip]`, `--set` repeats them on the layer where they ran before.
    #[serde(default)]
    run: Vec<Spanned<RunStep>>,
    /// systemd units that start with the container, or never start.
    #[serde(default)]
    services: Services,
    /// Program of process 1: `"systemd"`, or a program by its absolute path with its arguments.
    init: Spanned<InitKey>,
    /// File systems that are mounted in the container, each with a size of its own: up to 32.
    #[serde(default)]
    volumes: Vec<Spanned<Volume>>,
    /// Resource limits of one container.
    #[serde(default)]
    limits: Limits,
    /// Conditions that all hold once a container is ready. Without any, a container is ready when the jobs of systemd's
    /// boot are done, or, without systemd, as soon as it runs programs.
    #[serde(default)]
    probes: Vec<Spanned<ProbeTable>>,
    /// Files to collect after a case, by absolute paths, in which a shell's patterns such as `*` may stand.
    #[serde(default)]
    logs: Vec<Within<LogPattern>>,
    /// Environment of every program that is started in a container from outside.
    #[serde(default)]
    environment: Variables,
    /// Logins between machines: keys are made for each lab.
    #[serde(default)]
    ssh: Ssh,
    /// True if root inside the container is root of the host, for programs that need it. Each run warns of it.
    #[serde(default)]
    privileged: bool,
    /// Parts of the kernel that the containers may use although most containers may not, each [by its
    /// name](isolation.md#parts-of-the-kernel). The record of each run names them.
    #[serde(default)]
    allow: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "`from` is a template's name, \"scratch\", { tar = \"FILE\" } or { debian = \"RELEASE\" }"
)]
enum FromKey {
    Name(String),
    Table(FromTable),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FromTable {
    Tar(PathBuf),
    Debian(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PipTable {
    /// A requirements file with a hash for every package, relative to the template's folder.
    requirements: Spanned<PathBuf>,
    /// Absolute path of the folder in the container that the packages are put in.
    target: Within<PackageFolder>,
    /// Python version of the container, such as `3.11`.
    python: Within<PythonVersion>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileTable {
    /// The file or folder: relative to the folder of the file that names it, or by an absolute path of the host. It is read with the
    /// rights of the user who called sudo. Either this or `program`.
    source: Option<Spanned<PathBuf>>,
    /// A program of the host, by its name: it is found by `PATH`. No library comes with it, so it has to be a static one.
    program: Option<Spanned<String>>,
    /// Absolute path in the container.
    target: Within<MachinePath>,
    /// Permission bits of every file, octal; if not given, 0755 for files that anybody may execute, 0644 for others.
    #[serde(default, deserialize_with = "optional_mode")]
    mode: Option<u32>,
    /// `user` or `user:group`, by name or number inside the container; root if not given.
    owner: Option<Within<OwnerName>>,
}

fn optional_mode<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    mode(deserializer).map(Some)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Services {
    /// Units that start with the container.
    enable: Vec<Within<UnitName>>,
    /// Units that never start.
    mask: Vec<Within<UnitName>>,
}

/// Environment variables, in the order of the file.
#[derive(Debug, Default)]
struct Variables(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Variables {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Entries::<Within<VariableName>, Within<VariableValue>>::deserialize(deserializer)?.0;
        Ok(Self(entries.into_iter().map(|(name, value)| (name.0, value.0)).collect()))
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "`init` is \"systemd\" or a program with its arguments, [\"/sbin/init\"]")]
enum InitKey {
    Name(String),
    Command(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbeTable {
    /// Port of the container's address that accepts TCP connections, seen from the lab's network.
    tcp: Option<Within<Port>>,
    /// A GET of this path (`:port/path` or `/path`) at the container's address gives a status of 200 to 399.
    http: Option<Within<HttpTarget>>,
    /// Command that exits with 0: a program with its arguments.
    exec: Option<Vec<Within<CommandWord>>>,
    /// Path that exists.
    file: Option<Within<MachinePath>>,
    /// Unit of systemd that is active.
    unit: Option<Within<UnitName>>,
    /// Deadline from the container's start.
    #[serde(deserialize_with = "within::<ProbeTime, _>", default = "default_probe_timeout")]
    timeout: Duration,
}

fn default_probe_timeout() -> Duration {
    Duration::from_secs(30)
}

impl Template {
    /// Returns the names of the parts of the kernel that the template allows, in one line; `None` where it allows none.
    #[must_use]
    pub fn allowed_words(&self) -> Option<String> {
        let names: Vec<&str> = self.allow.iter().map(|allowance| allowance.name()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Reads every template below `dir`, and checks that each chain of `from` ends, without a cycle.
    pub fn read_all(dir: &Path) -> anyhow::Result<BTreeMap<String, Self>> {
        let mut found = BTreeMap::new();
        for path in input::list(dir)? {
            if input::is_folder(&path) && input::exists(&path.join("template.toml"))? {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                found.insert(name.clone(), Self::read(&name, &path)?);
            }
        }
        let names: Vec<String> = found.keys().cloned().collect();
        for (template, from, source) in found.values() {
            Self::check_ancestry(template, from, source, &found, &names)?;
        }
        Ok(found.into_iter().map(|(name, (template, _, _))| (name, template)).collect())
    }

    fn check_ancestry(
        template: &Self,
        from: &Spanned<()>,
        source: &Source,
        all: &BTreeMap<String, (Self, Spanned<()>, Source)>,
        names: &[String],
    ) -> Result<(), Error> {
        let mut chain = vec![template.name.as_str()];
        let mut current = template;
        while let Origin::Template(parent) = &current.from {
            let Some((next, _, _)) = all.get(parent) else {
                if current.name != template.name {
                    return Ok(()); // reported at the template that names it
                }
                let hint = nearest(parent, names.iter().map(String::as_str)).map_or_else(
                    || format!("there are {}", names.join(", ")),
                    |near| format!("did you mean {near:?}?"),
                );
                return Err(source.error_at(from, format!("there is no template {parent:?}: {hint}")));
            };
            if chain.contains(&parent.as_str()) {
                chain.push(parent);
                return Err(source.error_at(from, format!("the templates form a cycle: {}", chain.join(" from "))));
            }
            chain.push(parent);
            current = next;
        }
        Ok(())
    }

    fn read(name: &str, dir: &Path) -> anyhow::Result<(Self, Spanned<()>, Source)> {
        let source = Source::read(&dir.join("template.toml"))?;
        let file: File = source.parse()?;
        if !is_name(name) {
            let start = Spanned::new(0..0, ());
            return Err(source.error_at(&start, "a template's folder is named with a-z, 0-9, '-' and '_'").into());
        }
        for package in &file.packages {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
            if package.get_ref().is_empty()
                || !package.get_ref().chars().all(good)
                || package.get_ref().starts_with('-')
            {
                return Err(source
                    .error_at(package, format!("{:?} is not the name of a package", package.get_ref()))
                    .into());
            }
        }
        let pip = file.pip.map(|pip| check_pip(pip, dir, &source)).transpose()?;
        let files = file.files.into_iter().map(|entry| check_file(entry, dir, &source)).collect::<Result<_, _>>()?;
        let run = file.run.into_iter().map(|step| check_run(step, &source)).collect::<Result<_, _>>()?;
        let probes = file.probes.into_iter().map(|probe| check_probe(probe, &source)).collect::<Result<_, _>>()?;
        let init = check_init(&file.init, &source)?;
        let volumes = check_volumes(file.volumes, &init, &source)?;
        let allow = check_allowances(&file.allow, &source)?;
        if let Some(place) = file.allow.first().filter(|_| file.privileged) {
            let message = "`allow` has no effect on a privileged container: leave out `allow` or `privileged`";
            return Err(source.error_at(place, message).into());
        }
        let from = Spanned::new(file.from.span(), ());
        let template = Self {
            name: name.to_owned(),
            file: source.path.clone(),
            from: check_origin(&file.from, dir, &source)?,
            packages: file.packages.into_iter().map(Spanned::into_inner).collect(),
            pip,
            files,
            users: check_users(file.users, &source)?,
            run,
            enable: file.services.enable.into_iter().map(|unit| unit.0).collect(),
            mask: file.services.mask.into_iter().map(|unit| unit.0).collect(),
            init,
            volumes,
            limits: file.limits,
            probes,
            logs: file.logs.into_iter().map(|pattern| pattern.0).collect(),
            environment: file.environment.0,
            ssh: file.ssh,
            privileged: file.privileged,
            allow,
        };
        Ok((template, from, source))
    }
}

/// Checks that each volume is visible in the container: neither another volume nor a mount of the container hides it.
fn check_volumes(volumes: Vec<Spanned<Volume>>, init: &Init, source: &Source) -> Result<Vec<Volume>, Error> {
    let mut checked: Vec<Volume> = Vec::new();
    for volume in volumes {
        let path = volume.get_ref().path.as_str();
        let is_below = |path: &str, other: &str| path.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
        let problem = if checked.len() >= VOLUMES_MAX {
            Some(format!("a container has at most {VOLUMES_MAX} volumes"))
        } else if checked.iter().any(|other| other.path == path) {
            Some(format!("there is a volume at {path} already"))
        } else if let Some(hidden) = checked.iter().find(|other| is_below(&other.path, path)) {
            Some(format!(
                "this volume would hide the one at {}, which lies below it: list that one after it",
                hidden.path
            ))
        } else if *init == Init::Systemd && is_below(path, "/run") {
            Some(
                "systemd mounts a file system of its own at /run, which would hide this volume: choose another path"
                    .to_owned(),
            )
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(source.error_at(&volume, problem));
        }
        checked.push(volume.into_inner());
    }
    Ok(checked)
}

fn check_users(users: Vec<Spanned<UserEntry>>, source: &Source) -> Result<Vec<UserEntry>, Error> {
    let mut checked: Vec<UserEntry> = Vec::new();
    for user in users {
        let UserEntry { name, uid, .. } = user.get_ref();
        if let Some(other) = checked.iter().find(|other| other.name == *name || other.uid == *uid) {
            let problem = format!("user {name} ({uid}): there is the user {} ({}) already", other.name, other.uid);
            return Err(source.error_at(&user, problem));
        }
        checked.push(user.into_inner());
    }
    Ok(checked)
}

fn check_origin(from: &Spanned<FromKey>, dir: &Path, source: &Source) -> Result<Origin, Error> {
    Ok(match from.get_ref() {
        FromKey::Name(name) if name == "scratch" => Origin::Scratch,
        FromKey::Name(name) => Origin::Template(name.clone()),
        FromKey::Table(FromTable::Debian(release)) if is_name(release) => Origin::Debian(release.clone()),
        FromKey::Table(FromTable::Debian(release)) => {
            return Err(source.error_at(from, format!("{release:?} is not the code name of a Debian release")));
        }
        FromKey::Table(FromTable::Tar(path)) => {
            let path = dir.join(path);
            require_file(&path, from, source)?;
            Origin::Tar(path)
        }
    })
}

fn check_pip(pip: PipTable, dir: &Path, source: &Source) -> Result<Pip, Error> {
    let requirements = dir.join(pip.requirements.get_ref());
    require_file(&requirements, &pip.requirements, source)?;
    Ok(Pip { requirements, target: pip.target.0, python: pip.python.0 })
}

pub(super) fn check_file(entry: Spanned<FileTable>, dir: &Path, source: &Source) -> Result<FileEntry, Error> {
    let span = entry.span();
    let entry = entry.into_inner();
    let named = entry.source.as_ref().map(Spanned::span).or(entry.program.as_ref().map(Spanned::span));
    let place = source.place_of(&Spanned::new(named.unwrap_or_else(|| span.clone()), ()));
    let origin = match (entry.source, entry.program) {
        (Some(path), None) => FileSource::Path(check_source(&path, dir, source)?),
        (None, Some(program)) if is_program_name(program.get_ref()) => FileSource::Program(program.into_inner()),
        (None, Some(program)) => {
            return Err(source.error_at(&program, "a program is named without its folder: it is found by PATH"));
        }
        _ => return Err(source.error_at(&Spanned::new(span, ()), "a file has exactly one of source and program")),
    };
    let owner = entry.owner.map(|owner| owner.0);
    Ok(FileEntry { source: origin, target: entry.target.0, mode: entry.mode, owner, place })
}

/// Checks that a file which a template names exists, and that the user can read it.
fn require_file<T>(path: &Path, place: &Spanned<T>, source: &Source) -> Result<(), Error> {
    match input::look(path) {
        Ok(Some(_)) => input::open(path).map(drop).map_err(|error| source.error_at(place, error.to_string())),
        Ok(None) => Err(source.error_at(place, format!("there is no file {}", path.display()))),
        Err(error) => Err(source.error_at(place, error.to_string())),
    }
}

/// Returns a file's path, and checks that it exists if it lies in the project. A path of the host is looked for when the layer is built,
/// so that a host without it can still list, check and set up the project.
fn check_source(path: &Spanned<PathBuf>, dir: &Path, source: &Source) -> Result<PathBuf, Error> {
    let joined = dir.join(path.get_ref());
    match input::look(&joined).map_err(|error| source.error_at(path, error.to_string()))? {
        None if path.get_ref().is_relative() => {
            Err(source.error_at(path, format!("there is no file {}", joined.display())))
        }
        Some(found) if !found.is_file() && !found.is_dir() => {
            Err(source.error_at(path, format!("{} is neither a file nor a folder", joined.display())))
        }
        _ => Ok(joined),
    }
}

fn is_program_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && !name.starts_with('-') && !name.contains('/') && !name.contains(char::is_control)
}

pub(super) fn check_run(step: Spanned<RunStep>, source: &Source) -> Result<RunStep, Error> {
    match step.get_ref() {
        RunStep::Program(argv) if !argv.first().is_some_and(|program| is_absolute_path(program)) => {
            Err(source.error_at(&step, "a program is run by its absolute path in the container"))
        }
        RunStep::Shell(line) if line.trim().is_empty() => Err(source.error_at(&step, "the command is empty")),
        RunStep::Shell(line) if line.contains('\0') => Err(source.error_at(&step, "the command has a zero byte in it")),
        RunStep::Program(argv) if argv.iter().any(|word| word.contains('\0')) => {
            Err(source.error_at(&step, "the command has a zero byte in it"))
        }
        _ => Ok(step.into_inner()),
    }
}

fn check_init(init: &Spanned<InitKey>, source: &Source) -> Result<Init, Error> {
    match init.get_ref() {
        InitKey::Name(name) if name == "systemd" => Ok(Init::Systemd),
        InitKey::Command(argv)
            if argv
                .iter()
                .any(|word| word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control())) =>
        {
            Err(source.error_at(init, "LXC splits `init` at blanks and knows no quotes: put such words into a script"))
        }
        InitKey::Command(argv) if argv.first().is_some_and(|program| is_absolute_path(program)) => {
            Ok(Init::Command(argv.clone()))
        }
        _ => Err(source.error_at(init, "`init` is \"systemd\" or a program by its absolute path with its arguments")),
    }
}

fn check_probe(probe: Spanned<ProbeTable>, source: &Source) -> Result<Probe, Error> {
    let place = Spanned::new(probe.span(), ());
    let ProbeTable { tcp, http, exec, file, unit, timeout } = probe.into_inner();
    let conditions = [
        tcp.and_then(|port| u16::try_from(port.0).ok()).map(Condition::Tcp),
        http.map(|target| Condition::Http(target.0)),
        exec.map(|argv| Condition::Exec(argv.into_iter().map(|word| word.0).collect())),
        file.map(|path| Condition::File(path.0)),
        unit.map(|name| Condition::Unit(name.0)),
    ];
    let mut given = conditions.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(Condition::Exec(argv)), None) if argv.first().is_none_or(String::is_empty) => {
            Err(source.error_at(&place, "`exec` of a probe is a program with its arguments"))
        }
        (Some(condition), None) => Ok(Probe { condition, timeout }),
        _ => Err(source.error_at(&place, "a probe has exactly one of tcp, http, exec, file and unit")),
    }
}

/// Reads the list `allow` of parts of the kernel, each of which it may name once.
fn check_allowances(names: &[Spanned<String>], source: &Source) -> Result<Vec<Part>, Error> {
    let mut found = Vec::new();
    for place in names {
        let name = place.get_ref();
        let Some((part, _)) = Part::ALL.iter().find(|(_, each)| each == name) else {
            let all = Part::ALL.map(|(_, name)| name);
            let hint = nearest(name, all)
                .map_or_else(|| format!("the parts are {}", all.join(", ")), |near| format!("did you mean {near:?}?"));
            let message = format!("there is no part {name:?} of the kernel to allow: {hint}");
            return Err(source.error_at(place, message));
        };
        if found.contains(part) {
            return Err(source.error_at(place, format!("{name:?} is listed twice")));
        }
        found.push(*part);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "from = 'scratch'\ninit = ['/bin/init']\n";

    fn check(files: &[(&str, &str)], expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let shown = match Template::read_all(folder.path()) {
            Ok(found) => format!("ok {}", found.into_keys().collect::<Vec<_>>().join(" ")),
            Err(error) => error.to_string().replace(&format!("{}/", folder.path().display()), ""),
        };
        assert!(shown.starts_with(expected), "gave     {shown}\nexpected {expected}");
    }

    fn check_one(text: &str, expected: &str) {
        check(&[("a/template.toml", text)], expected);
    }

    #[test]
    fn good_templates() {
        check(&[("a/template.toml", GOOD), ("b/template.toml", "from = 'a'\ninit = 'systemd'")], "ok a b");
        check(
            &[
                ("a/files/x", ""),
                ("a/template.toml", &format!("{GOOD}[[files]]\nsource='files/x'\ntarget='/etc/x'\nmode='0600'")),
            ],
            "ok a",
        );
        check_one(&format!("{GOOD}[[files]]\nprogram='busybox'\ntarget='/bin/busybox'"), "ok a");
        check_one(&format!("{GOOD}[[files]]\nsource='/no/such/file'\ntarget='/x'"), "ok a");
        check_one(&format!("{GOOD}run = ['true', ['/bin/true', '-x']]"), "ok a");
        check_one(&format!("{GOOD}allow = ['user_namespaces', 'programs_32_bit']"), "ok a");
        check_one(&format!("{GOOD}[[probes]]\ntcp = 80\ntimeout = '5s'\n[limits]\nmemory = '1G'"), "ok a");
    }

    #[test]
    fn bad_templates_name_the_place() {
        check_one("init = 'systemd'", "a/template.toml:1:1: missing field `from`");
        check_one("from = 3\ninit = 'systemd'", "a/template.toml:1:8: `from` is a template's name");
        check_one("from = 'scratch'\ninit = 'sysv'", "a/template.toml:2:8: `init` is \"systemd\"");
        check_one(
            "from = 'scratch'\ninit = ['/bin/sh', '-c', 'a b']",
            "a/template.toml:2:8: LXC splits `init` at blanks",
        );
        check_one("from = 'scratch'\ninit = ['init']", "a/template.toml:2:8: `init` is \"systemd\"");
        check_one(&format!("{GOOD}package = []"), "a/template.toml:3:1: unknown field `package`");
        check_one(&format!("{GOOD}packages = ['-x']"), "a/template.toml:3:13: \"-x\" is not the name of a package");
        check_one(
            &format!("{GOOD}[limits]\nmemory = '1X'"),
            "a/template.toml:4:10: \"1X\" is not a size from \"4M\" to \"16T\"",
        );
        check_one(&format!("{GOOD}[[files]]\nsource='no'\ntarget='/x'"), "a/template.toml:4:8: there is no file a/no");
        check_one(&format!("{GOOD}[[probes]]\ntcp=1\nfile='/x'"), "a/template.toml:3:1: a probe has exactly one");
        check_one(
            &format!("{GOOD}[[volumes]]\npath='x'\nsize='1M'"),
            "a/template.toml:4:6: \"x\" is not an absolute path below /",
        );
        check_one("from = { tar = 'x.tar' }\ninit = 'systemd'", "a/template.toml:1:8: there is no file a/x.tar");
        check_one(&format!("{GOOD}[[files]]\ntarget='/x'"), "a/template.toml:3:1: a file has exactly one of");
        check_one(
            &format!("{GOOD}[[files]]\nprogram='/bin/x'\ntarget='/x'"),
            "a/template.toml:4:9: a program is named without its folder",
        );
        check_one(&format!("{GOOD}run = [['sh']]"), "a/template.toml:3:8: a program is run by its absolute path");
        check_one(&format!("{GOOD}run = [3]"), "a/template.toml:3:7: a command is a line for the shell");
        check_one(
            &format!("{GOOD}allow = ['keyring', 'io_urin']"),
            "a/template.toml:3:21: there is no part \"io_urin\" of the kernel to allow: did you mean \"io_uring\"?",
        );
        check_one(&format!("{GOOD}allow = ['bpf', 'bpf']"), "a/template.toml:3:17: \"bpf\" is listed twice");
        check_one(
            &format!("{GOOD}privileged = true\nallow = ['bpf']"),
            "a/template.toml:4:10: `allow` has no effect on a privileged container",
        );
        check_one("from = {debian = '../x'}\ninit = 'systemd'", "a/template.toml:1:8: \"../x\" is not the code name");
    }

    #[test]
    fn ancestry() {
        check_one("from = 'b'\ninit = 'systemd'", "a/template.toml:1:8: there is no template \"b\"");
        let from = |parent: &str| format!("from = '{parent}'\ninit = 'systemd'");
        check(
            &[("app/template.toml", &from("bse")), ("base/template.toml", GOOD)],
            "app/template.toml:1:8: there is no template \"bse\": did you mean \"base\"?",
        );
        check(
            &[("a/template.toml", &from("b")), ("b/template.toml", &from("a"))],
            "a/template.toml:1:8: the templates form a cycle: a from b from a",
        );
    }
}
