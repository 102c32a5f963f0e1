//! Attempts to escape through the engine: root in the machine prepares something, and the engine, which is root of the host, is asked to
//! use it.

use e2e::{Container, Lab, Result};

use super::world::{MARK, Seen, World};

/// Attempt to escape by a request to the engine.
pub struct Asked {
    pub name: &'static str,
    pub gain: &'static str,
    pub ask: fn(&World, &Lab, &Container) -> Result<Seen>,
}

/// Variable by which the engine finds the processes of an exec; it reveals nothing of the host.
const MARK_OF_EXEC: &str = "E2E_EXEC=";

pub const ASKED: &[Asked] = &[
    Asked { name: "fetched-link", gain: "a file of the host, fetched through a link", ask: fetched_link },
    Asked {
        name: "fetched-through-folder",
        gain: "a file of the host, fetched through a linked folder",
        ask: fetched_through_folder,
    },
    Asked {
        name: "fetched-by-parents",
        gain: "a file of the host, fetched by a path with ..",
        ask: fetched_by_parents,
    },
    Asked { name: "put-through-link", gain: "a file of the host, written through a link", ask: put_through_link },
    Asked {
        name: "put-through-folder",
        gain: "a new file on the host, through a linked folder",
        ask: put_through_folder,
    },
    Asked { name: "program-as-link", gain: "a program of the host, started for the machine", ask: program_as_link },
    Asked {
        name: "user-as-root",
        gain: "root of the host by a user named in the machine's own list",
        ask: user_as_root,
    },
    Asked { name: "descriptors-of-an-exec", gain: "what the engine has open", ask: descriptors },
    Asked { name: "environment-of-an-exec", gain: "the engine's environment", ask: environment },
];

fn marker(lab: &Lab) -> std::path::PathBuf {
    lab.artifacts().join("marker")
}

fn got(result: Result<Vec<u8>>) -> Seen {
    match result {
        Ok(bytes) if bytes == MARK.as_bytes() => Ok("the host's file came".into()),
        Ok(_) => Err("another file".into()),
        Err(error) => Err(first_line(&error.to_string())),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn link(a: &Container, target: &str, path: &str) -> Result {
    a.exec(["ln", "-sfn", target, path])?.success()?;
    Ok(())
}

fn fetched_link(world: &World, _: &Lab, a: &Container) -> Result<Seen> {
    link(a, &world.marker, "/tmp/link")?;
    Ok(got(a.get("/tmp/link")))
}

fn fetched_through_folder(_: &World, lab: &Lab, a: &Container) -> Result<Seen> {
    link(a, &lab.artifacts().display().to_string(), "/tmp/folder")?;
    Ok(got(a.get("/tmp/folder/marker")))
}

fn fetched_by_parents(world: &World, _: &Lab, a: &Container) -> Result<Seen> {
    Ok(got(a.get(format!("/tmp/../../../../../../../../..{}", world.marker))))
}

fn untouched(lab: &Lab, answer: Result) -> Seen {
    let stands = std::fs::read(marker(lab)).unwrap_or_default();
    if stands != MARK.as_bytes() {
        return Ok("the host's file was written".into());
    }
    Err(answer.err().map_or_else(|| "written in the machine".into(), |error| first_line(&error.to_string())))
}

fn put_through_link(world: &World, lab: &Lab, a: &Container) -> Result<Seen> {
    link(a, &world.marker, "/tmp/put")?;
    Ok(untouched(lab, a.write("/tmp/put", "by the machine")))
}

fn put_through_folder(_: &World, lab: &Lab, a: &Container) -> Result<Seen> {
    link(a, &lab.artifacts().display().to_string(), "/tmp/put_folder")?;
    let answer = a.write("/tmp/put_folder/new", "by the machine");
    if lab.artifacts().join("new").exists() {
        return Ok(Ok("a file was made on the host".into()));
    }
    Ok(untouched(lab, answer))
}

/// Runs a link to `cat` in the machine; if the link led to the host's `cat`, the host's marker could be read.
fn program_as_link(world: &World, _: &Lab, a: &Container) -> Result<Seen> {
    link(a, "/usr/bin/cat", "/tmp/program")?;
    let finished = a.exec(["/tmp/program", &world.marker])?;
    Ok(got(Ok(finished.stdout().to_vec())).map_err(|_| format!("status {}", finished.status)))
}

fn user_as_root(world: &World, _: &Lab, a: &Container) -> Result<Seen> {
    a.sh("echo 'host:x:0:0::/:/bin/sh' >>/etc/passwd")?.success()?;
    let finished = a.command(["cat", &world.marker]).user("host").run()?;
    Ok(got(Ok(finished.stdout().to_vec())).map_err(|_| format!("status {}: root of the machine only", finished.status)))
}

fn descriptors(_: &World, _: &Lab, a: &Container) -> Result<Seen> {
    let finished = a.sh("for fd in /proc/self/fd/*; do echo \"${fd##*/} $(readlink $fd)\"; done")?;
    let text = String::from_utf8_lossy(finished.stdout()).into_owned();
    let more = text.lines().filter_map(|line| line.split_once(' ')).find(|(fd, target)| {
        // The shell's own look at the folder is a descriptor too.
        fd.parse::<i32>().is_ok_and(|fd| fd > 2) && !target.is_empty() && !target.starts_with("/proc/")
    });
    Ok(more.map(|(fd, target)| format!("descriptor {fd}: {target}")).ok_or_else(|| "0, 1 and 2 only".into()))
}

fn environment(_: &World, _: &Lab, a: &Container) -> Result<Seen> {
    let text = String::from_utf8_lossy(a.exec(["env"])?.stdout()).into_owned();
    let names = ["E2E_", "SUDO_", "SSH_", "HOME=/home", "CARGO", "GITHUB", "TOKEN"];
    let own =
        text.lines().find(|line| names.iter().any(|name| line.starts_with(name)) && !line.starts_with(MARK_OF_EXEC));
    Ok(own.map(str::to_owned).ok_or_else(|| format!("{} variables, none of the engine's", text.lines().count())))
}
