//! `forward`: forwards a port of this host's loopback to a container of a live lab.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::lab_selector::LabSelector;
use super::{Context, Format, sudo};
use crate::error::{EXIT_PASSED, Error};
use crate::host::invoker::is_root;
use crate::host::network::forward::{Forward, Target};
use crate::report::terminal::println;
use crate::run::Interrupt;

/// Interval at which the verb checks that the lab still exists.
const LAB_POLL: Duration = Duration::from_secs(1);

/// Forward a port of this host's loopback to a container.
///
/// Ends with Ctrl-C or with the lab.
#[derive(Debug, clap::Args)]
#[command(before_long_help = "\
Examples:
  cargo xtask forward app:80
  cargo xtask forward db:5432 --port 15432")]
pub struct Args {
    /// Container and port, such as app:80.
    #[arg(value_name = "NAME:PORT")]
    target: String,
    /// Port on this host [default: a free one].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    #[command(flatten)]
    lab: LabSelector,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let (name, port) = parse(&args.target)?;
    if !is_root() {
        return sudo::again();
    }
    let (lab, machine) = args.lab.machine(name, context)?;
    let target = Arc::new(Target { network: lab.network()?, address: SocketAddr::from((machine.address, port)) });
    let interrupt = Interrupt::listen()?;
    let forward = Forward::listen(args.port)?;
    let address = forward.address()?;
    if context.format == Format::Json {
        println!("{}", json!({ "format_version": 1, "address": address, "container": machine.name, "port": port }));
    } else {
        println!("{address} leads to {}:{port}; Ctrl-C ends it", machine.name);
    }
    std::io::stdout().flush()?; // whoever started it in the background reads the address from a pipe
    let looked = std::cell::Cell::new(Instant::now());
    let goes_on = || {
        if looked.get().elapsed() > LAB_POLL {
            looked.set(Instant::now());
            if !lab.is_there() {
                context.terminal.say(&format!("the lab of slot {} is gone", lab.slot));
                return false;
            }
        }
        !interrupt.is_set()
    };
    let tell: Arc<dyn Fn(String) + Send + Sync> = {
        let terminal = Arc::clone(&context.terminal);
        Arc::new(move |line| terminal.say(&line))
    };
    forward.serve(&target, &goes_on, &tell)?;
    Ok(EXIT_PASSED)
}

fn parse(text: &str) -> Result<(&str, u16), Error> {
    let parsed =
        text.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse().ok().filter(|port| *port > 0)?)));
    parsed.filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
        Error::Usage(format!(
            "{text:?} is not a port of a container: write NAME:PORT, such as app:80, with a port from 1 to 65535"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_name_and_a_port() {
        assert_eq!(parse("app:80").unwrap(), ("app", 80));
        for bad in ["app", ":80", "app:", "app:0", "app:65536", "app:http"] {
            assert!(parse(bad).unwrap_err().to_string().contains("such as app:80"), "{bad}");
        }
    }
}
