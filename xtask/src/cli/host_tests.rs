//! Options of `cargo xtask test host`, and the hidden verb that runs the engine's tests on another host as root.

use std::path::PathBuf;

use super::Context;
use crate::error::Error;
use crate::guard::state_dir;
use crate::host::invoker::is_root;
use crate::report::terminal::println;
use crate::selftest::guest::{self, Kind, Options};

/// Options of the part `host` of the tests.
#[derive(Debug, Clone, clap::Args)]
pub struct HostArgs {
    /// Kind of host for the part `host`
    #[arg(long, value_enum, default_value_t = KindName::Uml)]
    kind: KindName,
    /// Debian release of the guest for the part `host` [default: the oldest that runs what this machine builds]
    #[arg(long, value_name = "RELEASE")]
    suite: Option<String>,
    /// Name of the record for `--kind here`
    #[arg(long, value_name = "NAME", default_value = "here")]
    host_name: String,
    /// Slot of the labs for the part `host`
    #[arg(long, value_name = "N", default_value = "89", hide = true)]
    host_slot: String,
}

/// Kinds of hosts, by the word of `--kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum KindName {
    /// User-Mode Linux: cgroup v2 and another kernel, as an ordinary process
    Uml,
    /// QEMU: a Debian kernel with AppArmor and systemd, on an emulated processor; takes twenty minutes
    Qemu,
    /// Incus: a privileged and an unprivileged instance on this machine
    Incus,
    /// This machine itself
    Here,
}

impl HostArgs {
    /// Returns the kind of host that `--kind` chose.
    pub fn kind(&self) -> Kind {
        match self.kind {
            KindName::Uml => Kind::Uml,
            KindName::Qemu => Kind::Qemu,
            KindName::Incus => Kind::Incus,
            KindName::Here => Kind::Here,
        }
    }

    /// Returns the command line of the hidden verb with these options.
    pub fn verb(&self) -> Vec<String> {
        let kind = match self.kind {
            KindName::Uml => "uml",
            KindName::Qemu => "qemu",
            KindName::Incus => "incus",
            KindName::Here => "here",
        };
        let mut words =
            vec!["host-tests".to_owned(), format!("--kind={kind}"), format!("--host-slot={}", self.host_slot)];
        words.push(format!("--host-name={}", self.host_name));
        words.extend(self.suite.as_ref().map(|suite| format!("--suite={suite}")));
        words
    }
}

/// Arguments of the hidden verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    host: HostArgs,
    /// Folder of the built programs of scenarios.
    #[arg(long)]
    programs: PathBuf,
}

/// Runs the engine's tests on another host; the exit code is 1 if a test failed that this kind of host supports.
///
/// # Errors
/// If this process is not root, or a guest cannot be made, was killed, or hangs.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    if !is_root() {
        return Err(Error::Usage(
            "tests on another host need root: run `cargo xtask test host`, which asks for it".into(),
        )
        .into());
    }
    let options = Options {
        root: context.root.clone(),
        programs: args.programs.clone(),
        state_dir: state_dir(),
        kind: args.host.kind(),
        suite: args.host.suite.clone(),
        slot: args.host.host_slot.clone(),
        name: args.host.host_name.clone(),
    };
    guest::run(&options, &|line| println!("{line}"))
}
