//! Accounts of a tree, read and added to without any program of it: the same on Debian, on busybox and from nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use anyhow::{Context as _, bail};

use super::files;
use crate::host::ids::IdRange;
use crate::host::invoker::Invoker;
use crate::host::syntax::{AccountField, compose};
use crate::image::tree;
use crate::manifest::UserEntry;

/// User and group inside the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    pub const ROOT: Self = Self { uid: 0, gid: 0 };

    /// The same on the host.
    pub fn outside(self, ids: IdRange) -> anyhow::Result<(u32, u32)> {
        for id in [self.uid, self.gid] {
            if id >= ids.count {
                bail!("id {id} is not below {}, the size of the containers' range", ids.count);
            }
        }
        Ok((ids.first + self.uid, ids.first + self.gid))
    }
}

/// `/etc/passwd` and `/etc/group` of a tree.
#[derive(Debug)]
pub struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Files that are not there count as empty.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        Ok(Self { passwd: read(root, "/etc/passwd")?, group: read(root, "/etc/group")? })
    }

    /// `user`, `user:group`, by name or number; a user alone means its own group too.
    pub fn owner(&self, text: &str) -> anyhow::Result<Owner> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let uid = id(user, &self.passwd, 2).with_context(|| format!("there is no user {user} in the layer"))?;
        let gid = match group {
            Some(group) => {
                id(group, &self.group, 2).with_context(|| format!("there is no group {group} in the layer"))?
            }
            None => field_of(&self.passwd, |fields| fields.get(2) == Some(&uid.to_string().as_str()), 3).unwrap_or(uid),
        };
        Ok(Owner { uid, gid })
    }
}

/// Adds users with a group of the same name and number, no password, and a home folder. A tree without accounts gets
/// root first.
pub fn add(root: &Path, users: &[UserEntry], ids: IdRange) -> anyhow::Result<()> {
    let mut passwd = or_if_empty(read(root, "/etc/passwd")?, "root:x:0:0:root:/root:/bin/sh\n");
    let mut group = or_if_empty(read(root, "/etc/group")?, "root:x:0:\n");
    let mut shadow = or_if_empty(read(root, "/etc/shadow")?, "root:*::0:99999:7:::\n");
    for UserEntry { name, uid, shell, groups } in users {
        if let Some(taken) = id(name, &passwd, 2).map(|taken| taken.to_string()).or_else(|| name_of(*uid, &passwd)) {
            bail!("the user {name} with uid {uid} meets one that is there already: {taken}");
        }
        for further in groups {
            group = with_member(&group, further, name)?;
        }
        let (name, shell) = (AccountField::new(name)?, AccountField::new(shell)?);
        passwd += &compose!(
            Accounts,
            "{name}:x:{uid}:{uid}::/home/{name}:{shell}\n",
            name = name,
            uid = *uid,
            shell = shell,
        );
        group += &compose!(Accounts, "{name}:x:{uid}:\n", name = name, uid = *uid);
        shadow += &compose!(Accounts, "{name}:*::0:99999:7:::\n", name = name); // '*': no password fits, but keys do
    }
    write(root, "/etc/passwd", &passwd, 0o644, Owner::ROOT, ids)?;
    write(root, "/etc/group", &group, 0o644, Owner::ROOT, ids)?;
    let shadow_group = id("shadow", &group, 2).unwrap_or(0);
    let shadow_mode = if shadow_group == 0 { 0o600 } else { 0o640 };
    write(root, "/etc/shadow", &shadow, shadow_mode, Owner { uid: 0, gid: shadow_group }, ids)?;
    for user in users {
        make_home(root, user, ids).with_context(|| format!("making the home folder of {}", user.name))?;
    }
    Ok(())
}

fn make_home(root: &Path, user: &UserEntry, ids: IdRange) -> anyhow::Result<()> {
    let home = format!("/home/{}", user.name);
    let owner = Owner { uid: user.uid, gid: user.uid };
    let folder = tree::resolve(root, Path::new(&home))?;
    tree::make_dirs(root, &folder, ids.first)?;
    let skeleton = tree::resolve(root, Path::new("/etc/skel"))?;
    if skeleton.is_dir() {
        files::copy(root, &skeleton, &Invoker::root(), Path::new(&home), None, owner, ids)?;
    }
    let (uid, gid) = owner.outside(ids)?;
    chown(&folder, Some(uid), Some(gid))?;
    Ok(fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?)
}

fn read(root: &Path, inside: &str) -> anyhow::Result<String> {
    let path = tree::resolve(root, Path::new(inside))?;
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other.with_context(|| format!("reading {}", path.display())),
    }
}

fn write(root: &Path, inside: &str, text: &str, mode: u32, owner: Owner, ids: IdRange) -> anyhow::Result<()> {
    let path = tree::resolve(root, Path::new(inside))?;
    let (uid, gid) = owner.outside(ids)?;
    tree::make_dirs(root, path.parent().unwrap_or(root), ids.first)
        .and_then(|()| fs::write(&path, text))
        .and_then(|()| chown(&path, Some(uid), Some(gid)))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("writing {}", path.display()))
}

fn or_if_empty(text: String, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text }
}

fn id(name_or_number: &str, table: &str, column: usize) -> Option<u32> {
    field_of(table, |fields| fields.first() == Some(&name_or_number), column).or_else(|| name_or_number.parse().ok())
}

fn name_of(uid: u32, passwd: &str) -> Option<String> {
    let uid = uid.to_string();
    passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid)).map(str::to_owned)
}

fn field_of(table: &str, wanted: impl Fn(&[&str]) -> bool, column: usize) -> Option<u32> {
    let mut lines = table.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| wanted(fields))?.get(column)?.parse().ok()
}

fn with_member(table: &str, group: &str, member: &str) -> anyhow::Result<String> {
    let mut found = false;
    let mut changed = String::new();
    for line in table.lines() {
        changed += line;
        if line.split(':').next() == Some(group) {
            found = true;
            changed += if line.ends_with(':') { "" } else { "," };
            changed += member;
        }
        changed.push('\n');
    }
    if !found {
        bail!("the user {member} is to be in the group {group}, which the layer does not have");
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_by_name_and_number() {
        let accounts = Accounts {
            passwd: "root:x:0:0::/root:/bin/sh\nu:x:1000:1001::/home/u:/bin/sh\n".into(),
            group: "root:x:0:\ng:x:5:\n".into(),
        };
        for (text, expected) in [
            ("u", Some((1000, 1001))),
            ("u:g", Some((1000, 5))),
            ("7:8", Some((7, 8))),
            ("7", Some((7, 7))),
            ("x", None),
        ] {
            let owner = accounts.owner(text).ok().map(|owner| (owner.uid, owner.gid));
            assert_eq!(owner, expected, "{text}");
        }
        let ids = IdRange { first: 100, count: 50 };
        assert_eq!(Owner { uid: 1, gid: 2 }.outside(ids).unwrap(), (101, 102));
        assert!(Owner { uid: 50, gid: 0 }.outside(ids).is_err());
    }

    #[test]
    fn members_join_groups() {
        assert_eq!(with_member("a:x:1:\nb:x:2:u\n", "a", "v").unwrap(), "a:x:1:v\nb:x:2:u\n");
        assert_eq!(with_member("a:x:1:\nb:x:2:u\n", "b", "v").unwrap(), "a:x:1:\nb:x:2:u,v\n");
        assert!(with_member("a:x:1:\n", "c", "v").is_err());
    }
}
