//! Scenario of attempts to escape from a machine: this program copies itself into machine `a` and runs there as root. No attempt does
//! harm if it succeeds: it reads, opens without writing, or writes the present content again.

mod files;
mod kernel;
mod outside;
mod world;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use e2e::{Access, Container, Lab, Result, check};
use serde_json::{Value, json};

use outside::Asked;
use world::{Attempt, MARK, World};

/// Exit status of an attempt that has succeeded.
const ESCAPED: u8 = 7;

/// Place of this program in the machine.
const PROGRAM: &str = "/escape/program";

fn main() -> ExitCode {
    match std::env::args().nth(1) {
        Some(name) => attempt(&name),
        None => e2e::run(scenario),
    }
}

fn attempts() -> Vec<Attempt> {
    [files::ATTEMPTS, kernel::ATTEMPTS].concat()
}

/// Makes one attempt inside the machine; its only line of output is the evidence, or what has stopped the attempt.
#[expect(clippy::print_stdout, reason = "the answer of a program in a machine")]
fn attempt(name: &str) -> ExitCode {
    let world = World::from_environment();
    let found = attempts().into_iter().find(|attempt| attempt.name == name);
    match found.map(|attempt| (attempt.make)(&world)) {
        Some(Ok(evidence)) => {
            println!("{evidence}");
            ExitCode::from(ESCAPED)
        }
        Some(Err(held)) => {
            println!("{held}");
            ExitCode::SUCCESS
        }
        None => ExitCode::FAILURE,
    }
}

/// Makes all attempts and keeps a table of them. None may succeed, except in the case `surveyed`, which only reports.
fn scenario(lab: &Lab) -> Result {
    let (a, b) = (lab.container("a")?, lab.container("b")?);
    let host = Host::lay_out(lab, &b)?;
    let loader = move_in(&a)?;
    let mut table = Vec::new();
    for attempt in attempts() {
        let program = a.command([&loader.program, "--library-path", &loader.folder, PROGRAM, attempt.name]);
        let finished = host.world.variables().fold(program, |program, (name, value)| program.env(name, value)).run()?;
        let seen = String::from_utf8_lossy(finished.stdout()).trim().to_owned();
        let status = u8::try_from(finished.status).unwrap_or(u8::MAX);
        if status != ESCAPED && status != 0 {
            let told = String::from_utf8_lossy(finished.stderr()).into_owned();
            return Err(anyhow::anyhow!("the attempt {} ended with status {}: {told}", attempt.name, finished.status));
        }
        table.push(row(attempt.name, attempt.gain, status == ESCAPED, &seen));
    }
    for Asked { name, gain, ask } in outside::ASKED {
        let (escaped, seen) = match ask(&host.world, lab, &a)? {
            Ok(evidence) => (true, evidence),
            Err(held) => (false, held),
        };
        table.push(row(name, gain, escaped, &seen));
    }
    lab.artifact("attempts.json", serde_json::to_vec_pretty(&table).context("formatting the table of attempts")?)?;
    let escaped: Vec<&Value> = table.iter().filter(|row| row["escaped"] == true).collect();
    let is_survey = lab.case() == "surveyed";
    check!(is_survey || escaped.is_empty(), "{} of {} attempts worked: {escaped:#?}", escaped.len(), table.len());
    Ok(())
}

fn row(name: &str, gain: &str, escaped: bool, seen: &str) -> Value {
    json!({"name": name, "gain": gain, "escaped": escaped, "seen": seen})
}

/// Things of the host that the attempts try to reach; they exist as long as this value.
struct Host {
    world: World,
    _listener: TcpListener,
    _abstract_listener: std::os::unix::net::UnixListener,
}

impl Host {
    fn lay_out(lab: &Lab, peer: &Container) -> Result<Self> {
        use std::os::linux::net::SocketAddrExt as _;
        let marker = lab.artifacts().join("marker");
        std::fs::write(&marker, MARK).context("writing the marker file")?;
        let listener = TcpListener::bind("127.0.0.1:0").context("listening")?;
        let name = format!("e2e-escape-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name)
            .context("making the address of an abstract socket")?;
        let abstract_listener = std::os::unix::net::UnixListener::bind_addr(&address).context("listening")?;
        let world = World {
            marker: marker.display().to_string(),
            pid: std::process::id().to_string(),
            port: listener.local_addr().context("reading the port of the listener")?.port().to_string(),
            abstract_name: name,
            peer: peer.address().to_string(),
            ipc: std::fs::read_link("/proc/self/ns/ipc")
                .context("reading the IPC namespace of this process")?
                .display()
                .to_string(),
        };
        Ok(Self { world, _listener: listener, _abstract_listener: abstract_listener })
    }
}

/// Dynamic loader in the machine, with the folder of its libraries.
struct Loader {
    program: String,
    folder: String,
}

/// Copies this program and its libraries into a machine that has no libraries.
fn move_in(a: &Container) -> Result<Loader> {
    let maps = std::fs::read_to_string("/proc/self/maps").context("reading the memory maps of this program")?;
    let mut libraries: Vec<PathBuf> = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|path| path.contains(".so"))
        .map(PathBuf::from)
        .collect();
    libraries.sort();
    libraries.dedup();
    let own = std::env::current_exe().context("finding the file of this program")?;
    a.put_with(own, PROGRAM, Access::mode(0o755))?;
    let inside = |library: &Path| format!("/escape/{}", library.file_name().unwrap_or_default().to_string_lossy());
    for library in &libraries {
        a.put_with(library, inside(library), Access::mode(0o755))?;
    }
    let loader = libraries.iter().map(|library| inside(library)).find(|path| path.contains("/ld-"));
    let program = loader.context("no dynamic loader among the libraries")?;
    Ok(Loader { program, folder: "/escape".into() })
}
