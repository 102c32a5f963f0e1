//! `logs`: what a container of a lab that exists now has logged.

#![expect(clippy::print_stdout, reason = "results go to stdout")]

use super::choice::InLab;
use super::{Context, sudo};
use crate::host::invoker::is_root;
use crate::host::{lxc, shell};

/// Show the logs of a container: LXC's, its console's, its journal.
#[derive(Debug, clap::Args)]
pub struct LogsArgs {
    /// The container, such as app or mancer-e2e-app.
    name: String,
    #[command(flatten)]
    lab: InLab,
}

/// Carries `logs` out.
///
/// # Errors
/// When no live lab has the container.
pub fn logs(args: &LogsArgs, _context: &Context) -> anyhow::Result<u8> {
    if !is_root() {
        return sudo::again();
    }
    let (_, machine) = args.lab.machine(&args.name)?;
    for name in ["lxc.log", "start.log", "console.log"] {
        let path = lxc::log_dir(&machine.host_name).join(name);
        let text = std::fs::read(&path).unwrap_or_default();
        if !text.is_empty() {
            println!("==> {} <==\n{}", path.display(), String::from_utf8_lossy(&text).trim_end());
        }
    }
    let journal = [
        "-n",
        &machine.host_name,
        "--",
        "/bin/sh",
        "-c",
        "! command -v journalctl >/dev/null || journalctl --no-pager -q",
    ];
    println!("==> journal of {} <==", machine.name);
    let status = shell::run_interactive(lxc::ATTACH, &journal.map(String::from))?;
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}
