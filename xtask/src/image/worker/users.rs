//! Users of a template, added to a tree's account files without running any program of the tree.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use anyhow::{Context as _, bail};

use super::accounts::{Owner, id, read};
use super::files;
use crate::host::container::ids::IdRange;
use crate::host::invoker::Invoker;
use crate::host::syntax::{AccountField, compose};
use crate::image::tree;
use crate::manifest::UserEntry;

/// Adds users, each with a group of the same name and number, a home folder, and no password. A tree without accounts gets root first.
pub fn add(root: &Path, users: &[UserEntry], ids: IdRange) -> anyhow::Result<()> {
    let mut passwd = or_if_empty(read(root, "/etc/passwd")?, "root:x:0:0:root:/root:/bin/sh\n");
    let mut group = or_if_empty(read(root, "/etc/group")?, "root:x:0:\n");
    let mut shadow = or_if_empty(read(root, "/etc/shadow")?, "root:*::0:99999:7:::\n");
    for UserEntry { name, uid, shell, groups } in users {
        if let Some(taken) = id(name, &passwd, 2).map(|taken| taken.to_string()).or_else(|| name_of(*uid, &passwd)) {
            bail!("user {name} with uid {uid} cannot be added: the tree has an account with this name or uid: {taken}");
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

fn name_of(uid: u32, passwd: &str) -> Option<String> {
    let uid = uid.to_string();
    passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid)).map(str::to_owned)
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
        bail!("user {member} cannot join group {group}: the layer has no such group");
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_join_groups() {
        assert_eq!(with_member("a:x:1:\nb:x:2:u\n", "a", "v").unwrap(), "a:x:1:v\nb:x:2:u\n");
        assert_eq!(with_member("a:x:1:\nb:x:2:u\n", "b", "v").unwrap(), "a:x:1:\nb:x:2:u,v\n");
        assert!(with_member("a:x:1:\n", "c", "v").is_err());
    }
}
