//! SSH keys that a lab generates before a container's first start, so that no layer contains keys.

use std::path::Path;

use anyhow::Context as _;

use super::machine::Machine;
use crate::guard::Make;
use crate::host::disk::container_fs;
use crate::host::exec::shell::Command;
use crate::host::syntax::{HostName, KeyLine, KnownHosts, Text, compose};

/// New key pair in OpenSSH's file format.
struct KeyPair {
    private: String,
    public: String,
}

fn make_key(dir: &Path, comment: &str) -> anyhow::Result<KeyPair> {
    let path = dir.join(comment);
    Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(&path).run()?;
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    Ok(KeyPair { private: read(&path)?, public: read(&path.with_added_extension("pub"))? })
}

/// Returns the key files for each machine's root, in the order of the machines: a host key for each server; a key for each client,
/// authorized on every server; and every server's host key, known to every client.
pub fn key_files(machines: &[Machine], roots: &[std::path::PathBuf]) -> anyhow::Result<Vec<Vec<Make>>> {
    let mut files: Vec<Vec<Make>> = vec![Vec::new(); machines.len()];
    let wanted =
        |machine: &Machine| !machine.template.ssh.accepts.is_empty() || !machine.template.ssh.clients.is_empty();
    if !machines.iter().any(wanted) {
        return Ok(files);
    }
    let scratch = tempfile::tempdir().context("making a folder for fresh ssh keys")?;
    let mut known: Vec<Text<KnownHosts>> = Vec::new();
    for ((machine, root), files) in machines.iter().zip(roots).zip(&mut files) {
        if !machine.template.ssh.accepts.is_empty() {
            let key = make_key(scratch.path(), &format!("{}-host", machine.name))?;
            known.push(compose!(
                KnownHosts,
                "{name},{address} {key}\n",
                name = HostName::new(&machine.name)?,
                address = machine.address(),
                key = KeyLine::new(&key.public)?,
            ));
            let owner = machine.host_ids(0, 0);
            let path = "/etc/ssh/ssh_host_ed25519_key";
            files.push(file(root, path, key.private, 0o600, owner));
            files.push(file(root, &format!("{path}.pub"), key.public, 0o644, owner));
        }
    }
    let known_hosts = known.into_iter().collect::<Text<KnownHosts>>().into_string();
    let mut authorized = String::new();
    for ((machine, root), files) in machines.iter().zip(roots).zip(&mut files) {
        for client in &machine.template.ssh.clients {
            let user = User::find(machine, client)?;
            let key = make_key(scratch.path(), &format!("{client}@{}", machine.name))?;
            authorized.push_str(&key.public);
            let ssh = format!("{}/.ssh", user.home);
            files.push(file(root, &format!("{ssh}/id_ed25519"), key.private, 0o600, user.owner));
            files.push(file(root, &format!("{ssh}/id_ed25519.pub"), key.public, 0o644, user.owner));
            files.push(file(root, &format!("{ssh}/known_hosts"), known_hosts.clone(), 0o644, user.owner));
        }
    }
    for ((machine, root), files) in machines.iter().zip(roots).zip(&mut files) {
        for accepted in &machine.template.ssh.accepts {
            let user = User::find(machine, accepted)?;
            let path = format!("{}/.ssh/authorized_keys", user.home);
            files.push(file(root, &path, authorized.clone(), 0o600, user.owner));
        }
    }
    Ok(files)
}

fn file(root: &Path, path: &str, content: String, mode: u32, owner: (u32, u32)) -> Make {
    Make::FileInRoot { root: root.to_owned(), path: path.to_owned(), content, mode, owner }
}

/// User account in the root filesystem of a container that does not run yet.
struct User {
    home: String,
    owner: (u32, u32),
}

impl User {
    fn find(machine: &Machine, name: &str) -> anyhow::Result<Self> {
        let passwd = machine.layers.iter().rev().find_map(|layer| container_fs::read(layer, "/etc/passwd").ok());
        let entry = passwd.as_deref().and_then(|text| Passwd::find(text, name)).with_context(|| {
            format!(
                "template {} names {name:?} under [ssh], but its /etc/passwd has no such user",
                machine.template.name
            )
        })?;
        Ok(Self { home: entry.home, owner: machine.host_ids(entry.uid, entry.gid) })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Passwd {
    pub uid: u32,
    pub gid: u32,
    pub home: String,
}

impl Passwd {
    pub fn find(text: &str, name: &str) -> Option<Self> {
        let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
        let fields: Vec<&str> = line.split(':').collect();
        Some(Self {
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
            home: (*fields.get(5)?).to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let text = "root:x:0:0:root:/root:/bin/sh\npostgres2:x:5:6::/x:\npostgres:x:104:112:PG:/var/lib/postgresql:/bin/bash\n";
        let found = Passwd::find(text, "postgres");
        assert_eq!(found, Some(Passwd { uid: 104, gid: 112, home: "/var/lib/postgresql".into() }));
        assert_eq!(Passwd::find(text, "nobody"), None);
    }
}
