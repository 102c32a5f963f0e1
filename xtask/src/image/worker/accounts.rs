//! Accounts of a tree, read without running any program of the tree, so that every tree is treated alike.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::host::container::ids::IdRange;
use crate::image::tree;

/// Owner of a file: user and group id inside the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    pub const ROOT: Self = Self { uid: 0, gid: 0 };

    /// Returns the ids on the host of this user and group of the container.
    pub fn outside(self, ids: IdRange) -> anyhow::Result<(u32, u32)> {
        for id in [self.uid, self.gid] {
            if id >= ids.count {
                bail!("user or group id {id} is not below {}, the size of the containers' range of ids", ids.count);
            }
        }
        Ok((ids.first + self.uid, ids.first + self.gid))
    }
}

/// Content of `/etc/passwd` and `/etc/group` in a tree.
#[derive(Debug)]
pub struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Reads `/etc/passwd` and `/etc/group` of a tree; a missing file counts as empty.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        Ok(Self { passwd: read(root, "/etc/passwd")?, group: read(root, "/etc/group")? })
    }

    /// Parses `user` or `user:group`, by name or number; a user alone implies the user's primary group.
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

/// Reads a file of a tree; a missing one counts as empty.
pub(super) fn read(root: &Path, inside: &str) -> anyhow::Result<String> {
    let path = tree::resolve(root, Path::new(inside))?;
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other.with_context(|| format!("reading {}", path.display())),
    }
}

/// Returns the number in this column of a name's line in an account file; without such a line, the name itself parsed as a number.
pub(super) fn id(name_or_number: &str, table: &str, column: usize) -> Option<u32> {
    field_of(table, |fields| fields.first() == Some(&name_or_number), column).or_else(|| name_or_number.parse().ok())
}

fn field_of(table: &str, wanted: impl Fn(&[&str]) -> bool, column: usize) -> Option<u32> {
    let mut lines = table.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| wanted(fields))?.get(column)?.parse().ok()
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
}
