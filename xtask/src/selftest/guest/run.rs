//! Tests of the engine on another host: guests are made and run their orders, and their records are joined into one per host.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::host::machine_itself;
use super::incus::{self, Incus, Rights};
use super::order::{Faults, Order, Project, Run, Share};
use super::payload::{Extent, Payload, projects};
use super::qemu::{self, Qemu};
use super::record::{HostRecord, Phase};
use super::steps;
use super::uml::{self, Uml};
use crate::error::{EXIT_FAILED, EXIT_PASSED, Error};
use crate::host::exec::shell::Command;
use crate::host::invoker::Invoker;
use crate::host::patience::Deadline;

/// Kind of host on which the engine is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Guests of User-Mode Linux.
    Uml,
    /// A guest of QEMU, with an emulated processor.
    Qemu,
    /// Instances of Incus: a privileged and an unprivileged one.
    Incus,
    /// This host itself, without a guest.
    Here,
}

impl Kind {
    /// Checks that this host can make guests of this kind, before anything is built.
    ///
    /// # Errors
    /// [`Error::Host`] if it cannot.
    pub fn require(self) -> Result<(), Error> {
        match self {
            Self::Uml => uml::kernel().map(drop),
            Self::Qemu => qemu::require(),
            Self::Incus => incus::require(),
            Self::Here => Ok(()),
        }
    }
}

/// Options of the tests on a host.
#[derive(Debug)]
pub struct Options {
    /// Checkout of the repository whose engine is tested.
    pub root: PathBuf,
    /// Folder with the scenarios' built programs.
    pub programs: PathBuf,
    /// Folder of the layers and of the guests' disks.
    pub state_dir: PathBuf,
    pub kind: Kind,
    /// Debian release in the guest; `None` for the release whose C library runs programs that are built here.
    pub suite: Option<String>,
    /// Slot of the labs that the tests create.
    pub slot: String,
    /// Name of the record, used only for [`Kind::Here`].
    pub name: String,
}

/// Deadline for a whole guest of User-Mode Linux.
const UML_DEADLINE: Deadline = Deadline::from_secs(900);
const QEMU_DEADLINE: Deadline = Deadline::from_secs(3 * 3600);
const INCUS_DEADLINE: Deadline = Deadline::from_secs(900);

const LAYERS_DEADLINE: Deadline = Deadline::from_secs(1200);

/// Folder with the layers inside a guest.
const STATE_DIR: &str = "/var/lib/mancer-e2e";

/// Name of the folder with guests' trees and disks, below the state folder.
const DISKS: &str = "hosts";

/// Seed of the run with random faults; constant, so that the records of different nights can be compared.
const CHAOS_SEED: &str = "7";

/// Filters of the cases that need no systemd and no browser.
const SMALL_CASES: [&str; 6] =
    ["who_am_i", "exec_round_trip", "three_machines", "smoke/programs", "smoke/python:default", "escape:held"];

/// Number of faults whose trials take as long as the other work of the first of two guests.
const FIRST_LESS: usize = 28;

/// Number of kills of each victim in a guest of User-Mode Linux.
const UML_KILLS: u32 = 1;
const QEMU_KILLS: u32 = 2;
const INCUS_KILLS: u32 = 2;
const HERE_KILLS: u32 = 5;

/// Results on one host, and the checks of `doctor` whose failure is expected there.
struct Tested {
    record: HostRecord,
    lacks: &'static [&'static str],
}

/// Runs the engine's tests on hosts of a kind, and writes `target/e2e/hosts/NAME.json` for each; returns [`EXIT_PASSED`] if everything
/// worked that is expected to work there.
///
/// # Errors
/// If a guest cannot be made, was killed, or missed its deadline; the records of the other guests are written nevertheless.
pub fn run(options: &Options, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<u8> {
    let invoker = Invoker::find();
    let tested = match options.kind {
        Kind::Uml => vec![whole(&[], || in_uml(options, &invoker, say))],
        Kind::Qemu => vec![whole(&[], || in_qemu(options, &invoker, say))],
        Kind::Incus => in_incus(options, &invoker, say)?,
        Kind::Here => vec![whole(&[], || here(options, say))],
    };
    let mut exit = EXIT_PASSED;
    let mut first_error = None;
    // What was found on one host is kept, whatever became of another.
    for result in tested {
        match result {
            Ok(tested) if keep(&tested, options, &invoker, say)? => {}
            Ok(_) => exit = EXIT_FAILED,
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(exit), Err)
}

fn whole(lacks: &'static [&'static str], work: impl FnOnce() -> anyhow::Result<HostRecord>) -> anyhow::Result<Tested> {
    let (mut record, all) = timed("all", work)?;
    record.phases.push(all);
    Ok(Tested { record, lacks })
}

/// Writes a record and shows its results; returns true if everything worked that is expected to work on the host.
fn keep(
    Tested { record, lacks }: &Tested,
    options: &Options,
    invoker: &Invoker,
    say: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<bool> {
    let hosts = hosts_folder(&options.root);
    let path = hosts.join(format!("{}.json", record.name));
    invoker
        .act(|| Ok(std::fs::create_dir_all(&hosts)?))
        .with_context(|| format!("creating the folder {}", hosts.display()))?;
    invoker.replace(&path, record.json()?.as_bytes())?;
    let [works, not_applicable, failed, not_tried] = record.fault_counts();
    say(&format!(
        "{}: {} of {} cases passed; faults: {works} work, {not_applicable} not applicable, {failed} failed, {not_tried} not \
         tried; {} kills; record: {}",
        record.name,
        record.cases.iter().filter(|case| case.passed).count(),
        record.cases.len(),
        record.kills.as_ref().map_or(0, |kills| kills.rounds.len()),
        path.display()
    ));
    let problems = record.problems(lacks);
    for problem in &problems {
        say(&format!("FAILED  {}: {problem}", record.name));
    }
    Ok(problems.is_empty())
}

/// Data that all guests of one kind of host have in common.
struct Guests<'a> {
    options: &'a Options,
    /// Name of the record into which the guests' records are joined.
    name: String,
    /// Kind of host that the record names.
    machine: String,
    /// Folder that contains a folder for each guest's files.
    folder: PathBuf,
    engine: PathBuf,
    invoker: &'a Invoker,
}

impl<'a> Guests<'a> {
    fn new(options: &'a Options, name: String, machine: &str, invoker: &'a Invoker) -> anyhow::Result<Self> {
        let engine = std::env::current_exe().context("finding the engine's own program")?;
        let folder = hosts_folder(&options.root).join(&name);
        Ok(Self { options, name, machine: machine.to_owned(), folder, engine, invoker })
    }

    /// Copies the payload of a guest into a new folder; returns the folder.
    fn lay_out(&self, number: usize, extent: Extent) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(format!("guest-{number}"));
        let removed = self.invoker.act(|| match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        });
        removed.with_context(|| format!("removing {}", folder.display()))?;
        let payload = Payload {
            root: &self.options.root,
            programs: &self.options.programs,
            engine: &self.engine,
            invoker: self.invoker,
        };
        payload.lay_out(&folder, extent)?;
        Ok(folder)
    }

    /// Returns an order without work for a guest.
    fn order(&self, number: usize, project: &Project, record: impl Into<PathBuf>) -> Order {
        Order {
            name: self.name.clone(),
            machine: self.machine.clone(),
            guest: number,
            doctor: None,
            runs: Vec::new(),
            faults: None,
            kills: 0,
            kills_in: project.clone(),
            has_host: true,
            state_dir: PathBuf::from(STATE_DIR),
            slot: self.options.slot.clone(),
            record: record.into(),
        }
    }
}

fn in_uml(options: &Options, invoker: &Invoker, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<HostRecord> {
    let suite = options.suite.as_deref().unwrap_or_else(|| uml::default_suite());
    let (uml, made) = timed("tree", || Uml::prepare(suite, &options.state_dir.join(DISKS), say))?;
    let guests = Guests::new(options, format!("uml-{suite}"), "User-Mode Linux", invoker)?;
    let (project, _) = projects(Path::new(uml::REPOSITORY), Path::new(uml::PROGRAMS));
    let guest = |number: usize| -> anyhow::Result<HostRecord> {
        let shared = guests.lay_out(number, Extent::Small)?;
        let share = Share { part: number - 1, of: 2, first_less: FIRST_LESS };
        let faults = Some(Faults { project: project.root.clone(), has_systemd: false, share });
        let mut order = Order { faults, ..guests.order(number, &project, uml::RECORD) };
        if number == 1 {
            order.doctor = Some(project.root.clone());
            order.runs = vec![small_run(&project)];
            order.kills = UML_KILLS;
        }
        say(&format!(
            "booting guest {number} of {}; its console: {}",
            guests.name,
            shared.join("console.log").display()
        ));
        let record = uml.carry_out(&order, &shared, invoker, UML_DEADLINE.scaled());
        // The other guest still has minutes to go: whoever looks on need not wait for the reason.
        record.inspect_err(|error| say(&format!("FAILED  {error:#}")))
    };
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| guest(2));
        let first = guest(1);
        (first, second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let mut record = first?.joined(second?);
    record.phases.insert(0, made);
    Ok(record)
}

fn in_qemu(options: &Options, invoker: &Invoker, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<HostRecord> {
    let suite = options.suite.as_deref().unwrap_or_else(|| uml::default_suite());
    let (qemu, made) = timed("tree", || Qemu::prepare(suite, &options.state_dir.join(DISKS), say))?;
    let guests = Guests::new(options, format!("qemu-{suite}"), "QEMU, emulated processor", invoker)?;
    let payload = guests.lay_out(1, Extent::Whole)?;
    say("building the layers of all templates");
    let (layers, built) = timed("layers", || layers(&guests.engine, &payload.join("repo")))?;
    let inside = Path::new(qemu::PAYLOAD);
    let (small, whole) = projects(&inside.join("repo"), &inside.join("programs"));
    let mut words = vec!["data_ingestion:small", "failure_recovery"];
    if suite == "trixie" {
        words.truncate(1);
    }
    let mut runs = vec![small_run(&small), run_of(&whole, &words)];
    if suite != "trixie" {
        runs.push(run_of(&whole, &["data_ingestion:small"]));
        runs.push(run_of(&whole, &["chaos_gauntlet", "--chaos", "--seed", CHAOS_SEED]));
    }
    let order = Order {
        doctor: Some(whole.root.clone()),
        runs,
        faults: Some(Faults { project: whole.root.clone(), has_systemd: true, share: Share::ALL }),
        kills: QEMU_KILLS,
        ..guests.order(1, &small, inside.join("record.json"))
    };
    say(&format!("booting {}; its console: {}", guests.name, payload.join("console.log").display()));
    let stored = options.state_dir.join("layers");
    let mut record = qemu.carry_out(&order, &payload, &layers, &stored, invoker, QEMU_DEADLINE.scaled())?;
    record.phases.splice(0..0, [made, built]);
    Ok(record)
}

fn in_incus(
    options: &Options,
    invoker: &Invoker,
    say: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<Vec<anyhow::Result<Tested>>> {
    let suite = options.suite.as_deref().unwrap_or_else(|| uml::default_suite());
    let (incus, made) = timed("tree", || Incus::prepare(suite, &options.state_dir.join(DISKS), say))?;
    let inside = Path::new(incus::PAYLOAD);
    let (project, _) = projects(&inside.join("repo"), &inside.join("programs"));
    let instance = |rights: Rights| {
        let machine = format!("Incus instance, {}", rights.word());
        let guests = Guests::new(options, format!("incus-{}", rights.word()), &machine, invoker)?;
        let payload = guests.lay_out(1, Extent::Small)?;
        let order = Order {
            doctor: Some(project.root.clone()),
            runs: vec![small_run(&project)],
            faults: Some(Faults { project: project.root.clone(), has_systemd: false, share: Share::ALL }),
            kills: INCUS_KILLS,
            // Loop devices are those of the machine around it, and so is the time since its boot.
            has_host: false,
            ..guests.order(1, &project, inside.join("record.json"))
        };
        say(&format!("starting {}; its console: {}", guests.name, payload.join("console.log").display()));
        let mut record = incus.carry_out(rights, &order, &payload, invoker, INCUS_DEADLINE.scaled())?;
        record.phases.insert(0, made.clone());
        Ok(record)
    };
    Ok([Rights::Privileged, Rights::Unprivileged]
        .map(|rights| {
            let tested = whole(rights.lacks(), || instance(rights));
            // The other instance still has a minute to go: whoever looks on need not wait for the reason.
            tested.inspect_err(|error| say(&format!("FAILED  {error:#}")))
        })
        .into())
}

/// Builds the layers of a project's templates in this host's store, and returns their names.
fn layers(engine: &Path, project: &Path) -> anyhow::Result<Vec<String>> {
    let image = |verb: &str| {
        Command::new(engine)
            .arg("--root")
            .arg(project)
            .args(["--format", "json", "image", verb])
            .deadline(LAYERS_DEADLINE.scaled())
    };
    image("build").run().context("building the layers")?;
    let answer: serde_json::Value = serde_json::from_str(&image("list").run()?.text())?;
    let rows = answer["layers"].as_array().context("`image list` has no layers")?;
    Ok(rows.iter().filter_map(|row| row["hash"].as_str()).map(str::to_owned).collect())
}

fn small_run(project: &Project) -> Run {
    Run { project: project.clone(), words: SMALL_CASES.map(str::to_owned).to_vec(), is_systemd: false }
}

fn run_of(project: &Project, words: &[&str]) -> Run {
    Run { project: project.clone(), words: words.iter().map(|word| (*word).to_owned()).collect(), is_systemd: true }
}

fn timed<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, Phase)> {
    let begun = Instant::now();
    let done = work()?;
    Ok((done, Phase { name: name.to_owned(), duration_s: tenths(begun.elapsed()) }))
}

fn hosts_folder(root: &Path) -> PathBuf {
    root.join("target/e2e/hosts")
}

/// Runs the tests on this host itself.
fn here(options: &Options, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<HostRecord> {
    let (small, whole) = projects(&options.root, &options.programs);
    let folder = tempfile::tempdir()?;
    let order = Order {
        name: options.name.clone(),
        machine: machine_itself(),
        guest: 1,
        doctor: Some(whole.root.clone()),
        runs: vec![small_run(&small), run_of(&whole, &["data_ingestion:small"])],
        faults: Some(Faults { project: whole.root, has_systemd: true, share: Share::ALL }),
        kills: HERE_KILLS,
        kills_in: small,
        has_host: false,
        state_dir: options.state_dir.clone(),
        slot: options.slot.clone(),
        record: folder.path().join("record.json"),
    };
    steps::carry_out(&order, say)
}

fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}
