//! Ids that the machine's user databases assign to users, and to the users' containers. Pure, except where it reads these files.

use std::fs;

use crate::host::container::ids::{IdRange, Region};

/// Name that labs' ids are registered under. No user has it: ids registered for root would be given to other containers by Incus and LXD.
pub const REGISTERED_AS: &str = "mancer-e2e";

/// First ids at which a region may begin, in units of a region: those that `ids` in `e2e.toml` may name.
const REGIONS: std::ops::Range<u32> = 0x70..0x7f;

/// Texts of the machine's files of users, groups and their ids.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    pub passwd: String,
    pub group: String,
    pub subuid: String,
    pub subgid: String,
    pub login_defs: String,
}

/// Lines of `/etc/subuid` or `/etc/subgid` that cover the ids of labs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Registered {
    /// True if root may use the ids, by `newuidmap`.
    pub for_root: bool,
    /// True if the ids are registered under any name, so that tools which assign ids see that they are taken.
    pub at_all: bool,
}

impl Registered {
    pub fn of(sub_ids: &str, ids: IdRange) -> Self {
        let covers = |names: &[&str]| {
            lines_of(sub_ids).any(|line| names.contains(&line.user) && line.first <= first(ids) && end(ids) <= line.end)
        };
        let for_root = covers(&["root", "0"]);
        Self { for_root, at_all: for_root || covers(&[REGISTERED_AS]) }
    }
}

impl Accounts {
    pub fn of_this_machine() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            passwd: text("/etc/passwd"),
            group: text("/etc/group"),
            subuid: text("/etc/subuid"),
            subgid: text("/etc/subgid"),
            login_defs: text("/etc/login.defs"),
        }
    }

    /// Lists each user, group or file that has, or may be given, some of these ids, as a text.
    pub fn claims(&self, ids: IdRange) -> Vec<String> {
        let mut claims = Vec::new();
        for (file, text) in [("/etc/subuid", &self.subuid), ("/etc/subgid", &self.subgid)] {
            let is_own = |line: &Line<'_>| {
                let is_exact = (line.first, line.end) == (first(ids), end(ids));
                line.user == REGISTERED_AS || is_exact && matches!(line.user, "root" | "0")
            };
            let others = lines_of(text).filter(|line| !is_own(line) && meets(ids, line.first, line.end));
            claims.extend(others.map(|line| format!("{file} gives {} {}-{}", line.user, line.first, line.end - 1)));
        }
        for (low, high, default) in [
            ("UID_MIN", "UID_MAX", (1000, 60_000)),
            ("GID_MIN", "GID_MAX", (1000, 60_000)),
            ("SUB_UID_MIN", "SUB_UID_MAX", (100_000, 600_100_000)),
            ("SUB_GID_MIN", "SUB_GID_MAX", (100_000, 600_100_000)),
        ] {
            let [least, most] =
                [(low, default.0), (high, default.1)].map(|(key, value)| self.setting(key).unwrap_or(value));
            // The range that labs share may lie there: then its line in /etc/subuid keeps it from being given out.
            let is_registered = |text| Registered::of(text, ids).at_all;
            let is_kept = low.starts_with("SUB") && is_registered(&self.subuid) && is_registered(&self.subgid);
            if !is_kept && meets(ids, least, most.saturating_add(1)) {
                claims.push(format!("/etc/login.defs has {low} {least} and {high} {most}"));
            }
        }
        for (kind, text) in [("user", &self.passwd), ("group", &self.group)] {
            let entries = text.lines().filter_map(|line| {
                let mut fields = line.split(':');
                Some((fields.next()?, fields.nth(1)?.parse::<u64>().ok()?))
            });
            let inside = entries.filter(|(_, id)| meets(ids, *id, id + 1));
            claims.extend(inside.map(|(name, id)| format!("the {kind} {name} has the id {id}")));
        }
        claims
    }

    /// Returns the first id of a region of which no user, group or container has an id.
    pub fn free_region(&self) -> Option<u32> {
        let mut firsts = REGIONS.map(|number| number << 24);
        firsts.find(|first| self.claims(IdRange { first: *first, count: Region::COUNT }).is_empty())
    }

    fn setting(&self, key: &str) -> Option<u64> {
        let mut lines = self.login_defs.lines().map(str::split_whitespace);
        lines.find_map(|mut words| if words.next()? == key { words.next()?.parse().ok() } else { None })
    }
}

struct Line<'a> {
    user: &'a str,
    first: u64,
    /// End of the range: one above the last id.
    end: u64,
}

fn lines_of(sub_ids: &str) -> impl Iterator<Item = Line<'_>> {
    sub_ids.lines().filter_map(|line| {
        let fields: Vec<_> = line.trim().split(':').collect();
        let [user, first, count] = fields[..] else { return None };
        let (first, count): (u64, u64) = (first.parse().ok()?, count.parse().ok()?);
        (count > 0).then(|| Line { user, first, end: first.saturating_add(count) })
    })
}

fn first(ids: IdRange) -> u64 {
    ids.first.into()
}

fn end(ids: IdRange) -> u64 {
    first(ids) + u64::from(ids.count)
}

fn meets(ids: IdRange, other_first: u64, other_end: u64) -> bool {
    other_first < end(ids) && first(ids) < other_end
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: IdRange = IdRange { first: 0x7000_0000, count: Region::COUNT };

    #[test]
    fn a_line_covers_all_ids_or_registers_none() {
        let check = |text: &str, for_root: bool, at_all: bool| {
            assert_eq!(Registered::of(text, IDS), Registered { for_root, at_all }, "{text}");
        };
        check("root:1879048192:16777216\n", true, true);
        check("mancer-e2e:1879048192:16777216\n", false, true);
        check("# a comment\nalice:1:2\n0:1800000000:200000000\n", true, true);
        check("mancer-e2e:1879048192:16777215\n", false, false);
        check("root:1879048193:16777216\n", false, false);
        check("alice:1879048192:16777216\n", false, false);
        check("root:1879048192\nroot:x:y\n", false, false);
        check("root:100000:18446744073709551615\n", true, true);
    }

    #[test]
    fn whoever_has_one_of_the_ids_is_named() {
        let nobody = Accounts {
            passwd: "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nbroken\n".into(),
            subuid: "alice:100000:65536\nmancer-e2e:1879048192:16777216\n".into(),
            subgid: "root:1879048192:16777216\n".into(),
            ..Accounts::default()
        };
        assert_eq!(nobody.claims(IDS), Vec::<String>::new());
        let check = |change: &dyn Fn(&mut Accounts), expected: &str| {
            let mut accounts = nobody.clone();
            change(&mut accounts);
            let claims = accounts.claims(IDS);
            assert!(claims.len() == 1 && claims[0].contains(expected), "{claims:?} lacks {expected}");
            assert_eq!(accounts.free_region(), Some(0x7100_0000));
        };
        check(&|it| it.passwd += "bob:x:1879100000:1000::/:/bin/sh\n", "the user bob has the id 1879100000");
        check(&|it| it.group += "staff:x:1895825407:\n", "the group staff has the id 1895825407");
        check(&|it| it.subuid += "bob:1879000000:65536\n", "/etc/subuid gives bob 1879000000-1879065535");
        check(&|it| it.subgid += "root:1879000000:1000000\n", "/etc/subgid gives root 1879000000-");
        check(&|it| it.login_defs = "UID_MAX 1880000000\n".into(), "UID_MIN 1000 and UID_MAX 1880000000");
        let mut all = nobody;
        all.subuid += "root:1879048192:268435456\n";
        assert_eq!(all.free_region(), None);
        // Shared ids lie where people's containers are given theirs, and only a line there keeps them free.
        let shared = IdRange { first: 300_000, count: 65_536 };
        let mut accounts = Accounts::default();
        assert_eq!(accounts.claims(shared).len(), 2);
        accounts.subuid = "mancer-e2e:300000:65536\n".into();
        accounts.subgid.clone_from(&accounts.subuid);
        assert_eq!(accounts.claims(shared), Vec::<String>::new());
    }
}
