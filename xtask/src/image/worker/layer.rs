//! Build of one layer from its recipe, step by step, into its staging folder.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use walkdir::WalkDir;

use super::network::Network;
use super::sandbox::{Log, Sandbox};
use super::{BuildSpec, clean, debian, files, python, users};
use crate::error::Error;
use crate::host::container::idmap::{IdMap, IdMappedTree};
use crate::host::container::ids::IdRange;
use crate::host::container::userns::UserNamespace;
use crate::host::disk::mount;
use crate::host::exec::shell::Command;
use crate::host::patience::Deadline;
use crate::host::syntax::Text;
use crate::image::recipe::Base;
use crate::image::store::{FORMAT_VERSION, LayerRecord};
use crate::manifest::RunStep;

/// Prefix of the log's line that names the next step.
pub const STEP_MARK: &str = "==> ";

/// Maximum bytes of a step's name, so that it fits on one line of a terminal.
const STEP_BYTES_MAX: usize = 80;

/// Deadline for copying a finished tree to the staging folder.
const COPY_DEADLINE: Deadline = Deadline::from_secs(600);

/// Folders in which the layer is built: `root` shows the whole tree, `upper` has only what this layer adds.
#[derive(Debug)]
struct Workplace {
    scratch: PathBuf,
    root: PathBuf,
    upper: PathBuf,
    /// Folder on disk that is mounted at `scratch`; `None` if a tmpfs is mounted there.
    on_disk: Option<PathBuf>,
}

/// Name of the file in the staging folder with the reason why the worker rejects the user's input.
pub const REFUSED: &str = "refused";

/// Builds a layer in its staging folder. The log goes to standard error; each step begins with a line that starts with `STEP_MARK`. The
/// text of an [`Error::Usage`] goes to the file `REFUSED` too.
pub fn build_layer(spec: &BuildSpec) -> anyhow::Result<()> {
    let built = build(spec);
    if let Some(Error::Usage(text)) = built.as_ref().err().and_then(Error::of) {
        let path = spec.staging.join(REFUSED);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    built
}

fn build(spec: &BuildSpec) -> anyhow::Result<()> {
    let started = Instant::now();
    spec.bounds.take_on(&spec.group).context("limiting the resources of the build")?;
    let log = Log::of_this_process()?;
    let mut network = Network::open(&log).context("making the network of the build")?;
    mount::leave_the_hosts_namespace()?;
    network.enter(&spec.staging)?;
    let recipe = &spec.recipe;
    let place = Workplace::prepare(spec)?;
    let namespace = UserNamespace::new(spec.ids.first, spec.ids.count).context("making a user namespace")?;
    fill_base(spec, &place, &namespace, &log)?;

    let sandbox = Sandbox::open(&place.root, &place.scratch, &namespace, spec.ids, &log)?;
    let parent = if let Base::Layer(hash) = &recipe.base { Some(hash.clone()) } else { None };
    let below = if parent.is_some() { debian::versions(&sandbox)? } else { Vec::new() };
    fill(spec, &place, &sandbox)?;
    let mut packages = debian::versions(&sandbox)?;
    packages.retain(|package| !below.contains(package));
    drop(sandbox);
    network.clear()?;

    step(&log, "clean")?;
    clean::clean(&place.root)?;
    step(&log, "store")?;
    let tree = place.store(&spec.staging)?;
    let record = LayerRecord {
        format_version: FORMAT_VERSION,
        template: spec.template.clone(),
        hash: spec.hash.clone(),
        parent,
        size_bytes: size(&tree)?,
        created_unix_s: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        duration_ms: u64::try_from(started.elapsed().as_millis())?,
        packages,
        first_id: spec.ids.first,
        python_packages: recipe.python.as_ref().map_or_else(Vec::new, |python| python::versions(&tree, python)),
    };
    write_record(&spec.staging, &record)
}

fn fill_base(spec: &BuildSpec, place: &Workplace, namespace: &UserNamespace, log: &Log) -> anyhow::Result<()> {
    match &spec.recipe.base {
        Base::Nothing | Base::Layer(_) => Ok(()),
        Base::Debian(release) => {
            step(log, &format!("debian {release}"))?;
            debian::bootstrap(release, &spec.recipe.packages, &place.root, &place.scratch, namespace, log)
        }
        Base::Tar { hash, .. } => {
            let tar = spec.sources.tar.as_deref().context("the build request has no path of the recipe's tar file")?;
            step(log, &format!("unpack {}", tar.display()))?;
            files::unpack(tar, hash, &spec.invoker, &place.root, namespace, log)
        }
    }
}

fn fill(spec: &BuildSpec, place: &Workplace, sandbox: &Sandbox<'_>) -> anyhow::Result<()> {
    let recipe = &spec.recipe;
    if !recipe.packages.is_empty() && !matches!(recipe.base, Base::Debian(_)) {
        step(sandbox.log(), "packages")?;
        debian::install(sandbox, &recipe.packages)?;
    }
    if let Some(wanted) = &recipe.python {
        step(sandbox.log(), "python packages")?;
        python::install(wanted, spec, &place.scratch, sandbox)?;
    }
    if !recipe.users.is_empty() {
        step(sandbox.log(), "users")?;
        users::add(&place.root, &recipe.users, spec.ids)?;
    }
    if !recipe.files.is_empty() {
        step(sandbox.log(), "files")?;
        for (file, source) in recipe.files.iter().zip(&spec.sources.files) {
            files::place(&place.root, source, &spec.invoker, file, spec.ids)?;
        }
    }
    for command in &recipe.run {
        match command {
            RunStep::Shell(line) => {
                step(sandbox.log(), &format!("run {line}"))?;
                sandbox.run(["/bin/sh", "-ec", Text::as_written(line).as_script()])?;
            }
            RunStep::Program(argv) => {
                step(sandbox.log(), &format!("run {}", argv.join(" ")))?;
                sandbox.run(argv)?;
            }
        }
    }
    for (verb, units) in [("enable", &recipe.enable), ("mask", &recipe.mask)] {
        if !units.is_empty() {
            step(sandbox.log(), &format!("{verb} {}", units.join(" ")))?;
            sandbox.run(["/usr/bin/systemctl", verb, "--"].into_iter().chain(units.iter().map(String::as_str)))?;
        }
    }
    Ok(())
}

fn step(log: &Log, name: &str) -> anyhow::Result<()> {
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = name.floor_char_boundary(STEP_BYTES_MAX.min(name.len()));
    writeln!(log.file()?, "{STEP_MARK}{}", &name[..end]).context("writing the build's log")
}

impl Workplace {
    fn prepare(spec: &BuildSpec) -> anyhow::Result<Self> {
        let IdRange { first, .. } = spec.ids;
        let scratch = spec.workplace.clone();
        let on_disk = if let Some(bytes) = spec.memory_bytes {
            mount::tmpfs(&scratch, bytes, 0o755, (0, 0))?;
            None
        } else {
            let folder = spec.staging.join("work");
            make_dir(&folder, 0)?;
            mount::bind(&folder, &scratch)?;
            Some(folder)
        };
        let upper = scratch.join("tree");
        make_dir(&upper, first)?;
        let root = if spec.lowers.is_empty() {
            upper.clone()
        } else {
            let (root, work) = (scratch.join("root"), scratch.join("overlay"));
            make_dir(&root, first)?;
            make_dir(&work, 0)?;
            mount::overlay(&root, &lowers(spec, &scratch)?, &upper, &work)?;
            root
        };
        Ok(Self { scratch, root, upper, on_disk })
    }

    /// Moves the layer's own tree to its place on disk, and removes the rest of the workplace.
    fn store(self, staging: &Path) -> anyhow::Result<PathBuf> {
        let tree = staging.join("root");
        if self.root != self.upper {
            mount::detach(&self.root)?;
        }
        if let Some(folder) = &self.on_disk {
            // As it lies on the disk: nothing is renamed from one mount to another.
            let upper = self
                .upper
                .strip_prefix(&self.scratch)
                .context("the layer's own tree is outside the build's scratch folder")?;
            let upper = folder.join(upper);
            fs::rename(&upper, &tree).with_context(|| format!("moving {} to {}", upper.display(), tree.display()))?;
            mount::detach(&self.scratch)?;
            fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
        } else {
            // -a keeps what an overlay needs below another one: whiteouts and trusted.overlay.opaque.
            Command::new("cp")
                .arg("-a")
                .arg("--")
                .arg(&self.upper)
                .arg(&tree)
                .deadline(COPY_DEADLINE.scaled())
                .run()?;
            mount::detach(&self.scratch)?;
        }
        Ok(tree)
    }
}

/// Returns the trees of the layers below, mounted with the owner ids of this build where theirs are different.
fn lowers(spec: &BuildSpec, scratch: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let IdRange { first, count } = spec.ids;
    let shown = |(place, (tree, from)): (usize, (&PathBuf, &u32))| {
        if *from == first {
            return Ok(tree.clone());
        }
        let at = scratch.join(format!("lower{place}"));
        make_dir(&at, 0)?;
        IdMappedTree::of(tree, &IdMap { from: *from, to: first, count }.namespace()?)?.attach(&at)?;
        Ok(at)
    };
    spec.lowers.iter().zip(&spec.first_ids).enumerate().map(shown).collect()
}

fn make_dir(path: &Path, owner: u32) -> anyhow::Result<()> {
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .and_then(|()| chown(path, Some(owner), Some(owner)))
        .with_context(|| format!("making {}", path.display()))
}

fn size(tree: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in WalkDir::new(tree) {
        bytes += entry?.metadata()?.blocks() * 512;
    }
    Ok(bytes)
}

fn write_record(staging: &Path, record: &LayerRecord) -> anyhow::Result<()> {
    let path = staging.join("layer.json");
    let text = serde_json::to_string_pretty(record)? + "\n";
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}
