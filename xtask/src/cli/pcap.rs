//! `pcap`: captures the packets of a container's network interface into a file that tcpdump and Wireshark read.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::lab_selector::LabSelector;
use super::{Context, sudo};
use crate::error::{EXIT_PASSED, Error};
use crate::host::invoker::{Invoker, is_root};
use crate::host::network::capture::PcapWriter;
use crate::host::network::capture::{Capture, Heard};
use crate::host::network::receive_buffer::kibibytes;
use crate::lab::{LiveLab, LiveMachine};
use crate::manifest::{CaptureTime, word_within};
use crate::run::Interrupt;

/// Maximum wait for a packet, after which the verb checks whether the capture has to end.
const POLL: Duration = Duration::from_millis(100);

/// Interval at which the verb checks that the lab still exists while no packet arrives.
const LAB_POLL: Duration = Duration::from_secs(1);

/// Capture the packets of a container's network interface.
///
/// Ends with Ctrl-C or with the lab.
#[derive(Debug, clap::Args)]
#[command(before_long_help = "\
Examples:
  cargo xtask pcap app --for 10s
  cargo xtask pcap db --output - | tcpdump -nr -")]
pub struct Args {
    /// Container, such as app or mancer-e2e-app.
    name: String,
    /// Output file, `-` for stdout [default: NAME.pcap].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Maximum duration, such as 10s.
    #[arg(long = "for", value_name = "TIME", value_parser = word_within::<CaptureTime>)]
    time: Option<Duration>,
    /// Maximum number of packets.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    count: Option<u64>,
    #[command(flatten)]
    lab: LabSelector,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    if !is_root() {
        return sudo::again();
    }
    let (lab, machine) = args.lab.machine(&args.name, context)?;
    let path = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.pcap", machine.name)));
    let interrupt = Interrupt::listen()?;
    let mut capture = Capture::open(&lab.network()?, &machine.machine().port())?;
    let mut writer = PcapWriter::begin(BufWriter::new(output(&path)?)).with_context(|| failed(&path))?;
    writer.flush().with_context(|| failed(&path))?;
    context.terminal.say(&format!("capturing the packets of {} into {}; Ctrl-C ends it", machine.name, path.display()));
    let (begun, mut looked) = (Instant::now(), Instant::now());
    let (mut packets, mut bytes, mut dropped) = (0_u64, 0_u64, 0_u64);
    while !interrupt.is_set() && args.count.is_none_or(|count| packets < count) {
        let left = args.time.map(|time| time.saturating_sub(begun.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            break;
        }
        match capture.next(left.map_or(POLL, |left| left.min(POLL)))? {
            Heard::Packet(packet) => {
                writer.add(packet.at, packet.bytes, packet.length).with_context(|| failed(&path))?;
                packets += 1;
                bytes += packet.length as u64;
                continue;
            }
            Heard::Nothing => writer.flush().with_context(|| failed(&path))?,
            // A container that is started again has another port.
            Heard::Gone => {
                dropped += u64::from(capture.dropped());
                match again(&lab, &machine, &interrupt)? {
                    Some(new) => capture = new,
                    None => break,
                }
            }
        }
        if looked.elapsed() > LAB_POLL {
            looked = Instant::now();
            if !lab.is_there() {
                context.terminal.say(&format!("the lab of slot {} is gone", lab.slot));
                break;
            }
        }
    }
    writer.flush().with_context(|| failed(&path))?;
    dropped += u64::from(capture.dropped());
    context.terminal.say(&format!("{packets} packets, {bytes} bytes{}", missing(dropped, capture.kernel_bytes())));
    Ok(EXIT_PASSED)
}

/// Waits until the container is started again, and opens a capture of its new network interface; `None` if the lab ends first or the verb
/// is interrupted.
fn again(lab: &LiveLab, machine: &LiveMachine, interrupt: &Interrupt) -> anyhow::Result<Option<Capture>> {
    while lab.is_there() && !interrupt.is_set() {
        if let Ok(capture) = Capture::open(&lab.network()?, &machine.machine().port()) {
            return Ok(Some(capture));
        }
        std::thread::sleep(POLL); // until the container is started again, of which there is no sign here
    }
    Ok(None)
}

/// Returns a note on packets that the kernel dropped from the capture; empty if it dropped none.
fn missing(dropped: u64, kernel_bytes: usize) -> String {
    match dropped {
        0 => String::new(),
        _ => {
            format!("; {dropped} more were dropped because the kernel's buffer of {} was full", kibibytes(kernel_bytes))
        }
    }
}

fn output(path: &Path) -> anyhow::Result<Box<dyn std::io::Write>> {
    if path == Path::new("-") {
        if std::io::stdout().is_terminal() {
            let message =
                "--output -: packets cannot be shown on a terminal: write them to a file, or to another program";
            return Err(Error::Usage(message.into()).into());
        }
        return Ok(Box::new(std::io::stdout()));
    }
    Ok(Box::new(new_file(path, &Invoker::find())?))
}

fn new_file(path: &Path, invoker: &Invoker) -> anyhow::Result<File> {
    if invoker.act(|| Ok(path.symlink_metadata().is_ok()))? {
        let message = format!("{} exists already: remove it, or name another file with --output", path.display());
        return Err(Error::Usage(message).into());
    }
    invoker.create(path)
}

fn failed(path: &Path) -> String {
    format!("writing {}", path.display())
}
