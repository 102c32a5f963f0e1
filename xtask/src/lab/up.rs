//! Start of a lab. The guard owns everything created, and takes it down.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use e2e_contract::Condition;

use super::capture_lock::CaptureLock;
use super::config::{HostTraits, Places, lxc_config};
use super::confinement;
use super::confinement::missing_filters;
use super::container::Container;
use super::live::{LAB_FILE, LabFile, LiveLab, LiveMachine};
use super::machine::Machine;
use super::readiness::{Circumstances, Nearness, WaitError};
use super::{log_folder, network, readiness, ssh};
use crate::error::{Error, HostCause};
use crate::guard::{Guard, Make, Process, Slot, Spawn, state_dir};
use crate::host::container::lxc;
use crate::host::disk::marked::{self, Standing};
use crate::host::disk::mount;
use crate::host::exec::held_clock::HeldClock;
use crate::host::network::netns::{NetworkNamespace, NetworkPlace};
use crate::host::network::port_lock::Making;
use crate::host::patience;
use crate::host::seccomp;
use crate::host::syntax::LxcConfig;
use crate::manifest::VolumeKind;

/// Space in bytes of the tmpfs for volume images, in addition to the images.
const VOLUME_SLACK_BYTES: u64 = 4 << 20;

/// Event during the start of a lab.
#[derive(Debug, Clone, PartialEq)]
pub enum Moment {
    /// LXC was told to start this container.
    Started { container: String },
    /// All probes of this container have passed.
    Ready {
        container: String,
        /// Time since the creation of the lab began.
        after: Duration,
    },
    /// System call filters of this container could not be installed.
    Unfiltered {
        container: String,
        /// Names of the missing filters, in one line.
        missing: String,
    },
}

/// Lab whose containers were started.
#[derive(Debug)]
pub struct Lab {
    guard: Arc<Guard>,
    containers: Vec<Container>,
    network: NetworkNamespace,
    streams_dir: PathBuf,
    clock: Arc<HeldClock>,
    pub(super) capture_lock: CaptureLock,
    begun: Instant,
}

impl Lab {
    /// Creates the network and the containers and starts them all. On failure, everything created is removed again.
    pub fn start(guard: &Arc<Guard>, machines: &[Machine], observe: &dyn Fn(Moment)) -> anyhow::Result<Self> {
        Self::make(guard, machines, observe).map_err(|error| match guard.reset() {
            Ok(()) => error,
            Err(reset) => {
                error.context(format!("the lab was not made, and parts of it could not be removed ({reset:#})"))
            }
        })
    }

    /// Attaches to a lab that another engine has started and left running.
    pub fn attach(guard: &Arc<Guard>, live: &LiveLab) -> anyhow::Result<Self> {
        let (slot, clock) = (guard.slot(), Arc::new(HeldClock::default()));
        let container = |live: &LiveMachine| {
            let process = guard.found(&live.name).with_context(|| {
                format!("the lab's guard does not report an lxc-start process of {}", live.host_name)
            })?;
            let machine = live.machine().clone();
            let places = Places::of(slot, &machine);
            anyhow::Ok(Container::found(machine, places, process, Arc::clone(&clock)))
        };
        Ok(Self {
            guard: Arc::clone(guard),
            containers: live.machines.iter().map(container).collect::<Result<_, _>>()?,
            network: live.network()?,
            streams_dir: streams_dir(slot),
            clock: Arc::clone(&clock),
            capture_lock: CaptureLock::default(),
            begun: Instant::now(),
        })
    }

    /// Returns the guard that owns the lab.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    #[must_use]
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    #[must_use]
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.machine().name == name)
    }

    /// Returns the folder for the output streams of programs in the lab; it is removed with the lab.
    #[must_use]
    pub fn streams_dir(&self) -> &Path {
        &self.streams_dir
    }

    #[must_use]
    pub fn network(&self) -> &NetworkNamespace {
        &self.network
    }

    /// Returns the clock for deadlines in the lab; it stands still while a case is paused.
    #[must_use]
    pub fn clock(&self) -> &Arc<HeldClock> {
        &self.clock
    }

    /// Returns the time since the creation of the lab began.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    fn make(guard: &Arc<Guard>, machines: &[Machine], observe: &dyn Fn(Moment)) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let slot = guard.slot().clone();
        // Only root may look in here: a scenario that could put a link in the place of a stream would be shown any file.
        let streams_dir = streams_dir(&slot);
        require_free(&streams_dir, &slot, "")?;
        let mut first_things = vec![Make::Marked { path: streams_dir.clone(), mode: 0o700 }];
        if mount::is_proc_covered() {
            let path = slot.dir().join("proc");
            first_things.extend([Make::Dir { path: path.clone(), mode: 0o700, owner: (0, 0) }, Make::Proc { path }]);
        }
        guard.make(first_things)?;
        let host = HostTraits::of_this_host()?;
        let places: Vec<Places> = machines.iter().map(|machine| Places::of(&slot, machine)).collect();
        let namespace = guard.make_network(network::bridge_lines(first(machines)?.network, machines))?;
        let network = NetworkNamespace::open(&namespace)?;
        // Beside the making of the first machine, which is alone; no other one starts before the lock is on.
        let ports = machines.iter().map(network::port).collect::<Vec<_>>();
        let mut lock = Making::begin(NetworkNamespace::open(&namespace)?, &ports, first(machines)?.network.gateway())?;
        // The guard's path, not this process's: it leads there as long as the lab lives.
        let place = NetworkPlace { path: namespace.clone(), inode: network.place()?.inode };
        guard.make(vec![live_file(&slot.dir(), place, machines)?])?;
        let roots: Vec<PathBuf> = places.iter().map(Places::root).collect();
        let keys = ssh::key_files(machines, &roots)?;
        let hosts = network::hosts_file(machines)?.into_string();
        let (mut containers, clock) = (Vec::new(), Arc::new(HeldClock::default()));
        for ((machine, places), keys) in machines.iter().zip(places).zip(keys) {
            let name = &machine.host_name;
            require_free(&lxc::container_dir(name), &slot, name)?;
            let hook = network::start_hook(machine, &places, &namespace)?;
            let mut things = root_and_volumes(machine, &places);
            things.push(file_in_root(machine, &places, "/etc/hosts", hosts.clone()));
            things.push(file_in_root(machine, &places, "/etc/hostname", format!("{}\n", machine.name)));
            things.extend(keys);
            things.push(root_file(places.hook(), hook.into_string()));
            things.extend(lxc_folders(machine, &slot, lxc_config(machine, &places, &host)?)?);
            guard.make(things).with_context(|| format!("making container {}", machine.host_name))?;
            if !containers.is_empty() {
                lock.take().map_or(Ok(()), Making::finish)?;
            }
            let process = spawn(guard, machine)?;
            observe(Moment::Started { container: machine.name.clone() });
            containers.push(Container::new(machine.clone(), places, process, Arc::clone(&clock)));
        }
        lock.take().map_or(Ok(()), Making::finish)?;
        Ok(Self {
            guard: Arc::clone(guard),
            containers,
            network,
            streams_dir,
            clock,
            capture_lock: CaptureLock::default(),
            begun,
        })
    }

    /// Waits until the probes of every container have passed. The first probe that cannot pass any more ends the wait for all.
    ///
    /// # Errors
    /// [`WaitError`] of a container that ended, if any, else of one whose probes failed; [`Error::Interrupted`].
    pub fn wait_until_ready(
        &self,
        observe: &(dyn Fn(Moment) + Sync),
        interrupted: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), WaitError> {
        let moment = |container: &Container| {
            observe(Moment::Ready { container: container.machine().name.clone(), after: self.begun.elapsed() });
        };
        self.wait_for_probes(&|| self.begun.elapsed(), None, &moment, interrupted)?;
        for container in &self.containers {
            if let Some(missing) = container.init_pid().ok().and_then(|init| missing_filters(container.machine(), init))
            {
                observe(Moment::Unfiltered { container: container.machine().name.clone(), missing });
            }
        }
        Ok(())
    }

    /// Waits until the probes of every container have passed again, all within the deadline.
    ///
    /// # Errors
    /// [`WaitError`] of a container that ended, if any, else of one whose probes failed.
    pub fn wait_until_recovered(
        &self,
        deadline: Duration,
        interrupted: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), WaitError> {
        let watch = self.clock.watch();
        self.wait_for_probes(&|| watch.elapsed(), Some(deadline), &|_| (), interrupted)
    }

    /// Waits for the probes of all containers in parallel, each within its own timeout, or all within `deadline`.
    fn wait_for_probes(
        &self,
        waited: &(dyn Fn() -> Duration + Sync),
        deadline: Option<Duration>,
        ready: &(dyn Fn(&Container) + Sync),
        interrupted: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), WaitError> {
        let failed = AtomicBool::new(false);
        let failed = &failed;
        let mut errors: Vec<WaitError> = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for container in &self.containers {
                let look = move || {
                    let stop = || interrupted() || failed.load(Ordering::SeqCst);
                    let passed = self.wait_for_one(container, waited, deadline, &stop);
                    match passed {
                        Ok(()) => ready(container),
                        Err(_) => failed.store(true, Ordering::SeqCst),
                    }
                    passed.err()
                };
                let thread = std::thread::Builder::new().name(format!("probe {}", container.machine().name));
                threads.push((container, thread.spawn_scoped(scope, look)));
            }
            if threads.iter().any(|(_, thread)| thread.is_err()) {
                failed.store(true, Ordering::SeqCst);
            }
            // A look that did not take place is none that passed.
            let errors =
                threads.into_iter().filter_map(|(container, thread)| match thread.map(ScopedJoinHandle::join) {
                    Ok(Ok(error)) => error,
                    Ok(Err(_)) => {
                        Some(not_looked(container, "the thread that tested the condition panicked".to_owned()))
                    }
                    Err(error) => Some(not_looked(container, format!("starting a thread: {error}"))),
                });
            errors.collect()
        });
        // Those that were only told to stop come last.
        errors.sort_by_key(WaitError::rank);
        errors.into_iter().next().map_or(Ok(()), Err)
    }

    pub(super) fn wait_for_one(
        &self,
        container: &Container,
        waited: &dyn Fn() -> Duration,
        deadline: Option<Duration>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), WaitError> {
        // While machines recover from faults, whatever mends them has its whole time.
        let settled = || deadline.is_none().then_some(0);
        let circumstances = Circumstances {
            network: &self.network,
            streams_dir: &self.streams_dir,
            interrupted: stop,
            settled: &settled,
            nearness: Nearness::Starting,
        };
        for probe in readiness::probes(&container.machine().template) {
            let deadline = deadline.unwrap_or_else(|| patience::scaled(probe.timeout));
            let left = deadline.saturating_sub(waited());
            container
                .wait_for(&probe.condition, left, &circumstances)
                .map_err(|error| error.with_deadline(deadline))?;
        }
        Ok(())
    }
}

/// Returns the error of a container whose probes the engine could not test.
fn not_looked(container: &Container, reason: String) -> WaitError {
    let probes = readiness::probes(&container.machine().template);
    let condition = probes.into_iter().next().map_or_else(|| Condition::Exec(Vec::new()), |probe| probe.condition);
    WaitError::NotLooked { container: container.machine().name.clone(), condition, reason }
}

/// Starts the container of a machine whose root, configuration and log folder exist.
pub(super) fn spawn(guard: &Guard, machine: &Machine) -> anyhow::Result<Process> {
    let process = guard.spawn(Spawn {
        name: machine.name.clone(),
        argv: lxc::start_command(&machine.host_name),
        environment: lxc::start_environment(),
        log: machine.log_dir().join("start.log"),
        filtered: confinement::parts(machine),
    });
    process.map_err(|error| if lxc::is_installed() { error } else { HostCause::Lxc.error(&error) })
}

/// Fails if a folder exists that does not belong to a lab in this slot. `container` is the container that needs the folder; empty for a
/// folder of the whole lab.
fn require_free(folder: &Path, slot: &Slot, container: &str) -> Result<(), Error> {
    marked::require_free(folder, slot.name()).map_err(|error| {
        let help = match marked::standing(folder) {
            Standing::Marked(mark) => {
                format!("take that lab down with `cargo xtask clean --slot {}`, or choose other names", mark.slot)
            }
            _ if folder.join("config").is_file() => {
                format!(
                    "remove the container (`lxc-destroy -n {container}`), or choose other names with --e2e-containers"
                )
            }
            _ if container.is_empty() => format!("remove it (`rm -r {}`), or take another --slot N", folder.display()),
            _ => format!("remove it (`rm -r {}`), or choose other names with --e2e-containers", folder.display()),
        };
        Error::Host { problem: error.to_string(), help }
    })
}

fn streams_dir(slot: &Slot) -> PathBuf {
    state_dir().join("streams").join(slot.name())
}

fn first(machines: &[Machine]) -> anyhow::Result<&Machine> {
    machines.first().context("the lab has no container")
}

fn live_file(slot_dir: &Path, network: NetworkPlace, machines: &[Machine]) -> anyhow::Result<Make> {
    let file = LabFile { network, machines: machines.to_vec() };
    Ok(root_file(slot_dir.join(LAB_FILE), serde_json::to_string(&file)?))
}

/// Returns the container's root, an overlay on its layers with a tmpfs of limited size for writes, and its volumes.
fn root_and_volumes(machine: &Machine, places: &Places) -> Vec<Make> {
    let owner = machine.host_ids(0, 0);
    let dir = |path: PathBuf, owner| Make::Dir { path, mode: 0o755, owner };
    let writes = places.writes();
    let (upper, work) = (places.upper(), writes.join("work"));
    // A layer's tree lies in the folder that its lock is on.
    let shared = machine.layers.iter().filter_map(|tree| tree.parent());
    let mut things: Vec<Make> = shared.map(|path| Make::Share { path: path.to_owned() }).collect();
    things.extend([
        dir(places.dir.clone(), (0, 0)),
        Make::Dir { path: writes.clone(), mode: 0o700, owner: (0, 0) },
        Make::Tmpfs { path: writes, size_bytes: machine.template.limits.disk, mode: 0o755, owner },
        dir(upper.clone(), owner),
        dir(work.clone(), owner),
        dir(places.root(), (0, 0)),
        Make::Overlay { path: places.root(), lowers: machine.lowers(), upper, work },
    ]);
    let images = places.images();
    let images_bytes: u64 = machine.template.volumes.iter().map(|volume| volume.size).sum();
    if images_bytes > 0 {
        let size_bytes = images_bytes + VOLUME_SLACK_BYTES;
        things.push(dir(images.clone(), (0, 0)));
        things.push(Make::Tmpfs { path: images, size_bytes, mode: 0o700, owner: (0, 0) });
    }
    for (index, volume) in machine.template.volumes.iter().enumerate() {
        let path = places.volume(index);
        things.push(dir(path.clone(), (0, 0)));
        things.push(match volume.kind {
            VolumeKind::Tmpfs => Make::Tmpfs { path: path.clone(), size_bytes: volume.size, mode: 0o755, owner },
            VolumeKind::Ext4 => {
                Make::Ext4 { image: places.image(index), size_bytes: volume.size, path: path.clone(), owner }
            }
        });
        things.push(Make::Copy { root: places.root(), path: volume.path.clone(), to: path });
    }
    things
}

/// Returns LXC's folder with the configuration, and a new folder for the live logs.
fn lxc_folders(machine: &Machine, slot: &Slot, config: LxcConfig) -> anyhow::Result<Vec<Make>> {
    log_folder::renew(&machine.log_dir(), slot.name())?;
    let folder = lxc::container_dir(&machine.host_name);
    let mut things = vec![
        Make::Marked { path: folder.clone(), mode: 0o755 },
        root_file(folder.join("config"), config.into_string()),
    ];
    things.extend(confinement::parts(machine).map(|parts| root_file(Places::policy(machine), seccomp::policy(&parts))));
    Ok(things)
}

/// Creates a file that only root may read, for the engine and LXC: its content may include environment variables.
fn root_file(path: PathBuf, content: String) -> Make {
    Make::File { path, content, mode: 0o600, owner: (0, 0) }
}

fn file_in_root(machine: &Machine, places: &Places, path: &str, content: String) -> Make {
    let owner = machine.host_ids(0, 0);
    Make::FileInRoot { root: places.root(), path: path.into(), content, mode: 0o644, owner }
}
