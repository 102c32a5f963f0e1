//! Checks of the engine's permissions.

use super::accounts::{REGISTERED_AS, Registered};
use super::facts::{Facts, SlotIds};
use super::finding::{Finding, Group};
use crate::host::container::ids::IdRange;
use crate::host::tools::packages::{Manager, Supply, WayToRoot};
use crate::host::tools::sudo::Sudo;

pub fn findings(facts: &Facts) -> Vec<Finding> {
    vec![facts.root(), facts.sub_ids("subuid", facts.subuid), facts.sub_ids("subgid", facts.subgid), facts.claims()]
}

impl Facts {
    fn root(&self) -> Finding {
        let (group, check) = (Group::Permission, "root");
        let user = &self.user;
        if self.way_to_root == WayToRoot::Direct {
            return Finding::ok(group, check, "this is root");
        }
        let rulers = if self.supply == Supply::Packages(Manager::Apt) { "sudo" } else { "wheel" };
        let allow = match self.supply {
            // Users are declared there: no program changes them.
            Supply::Nix => format!("users.users.{user}.extraGroups = [ \"{rulers}\" ]; in the system's configuration"),
            _ => format!("su -c '/usr/sbin/usermod --append --groups {rulers} {user}'  (then log in again)"),
        };
        match self.sudo {
            Sudo::Silent => Finding::ok(group, check, format!("{user}, with sudo that asks for no password")),
            Sudo::Asks => Finding::ok(group, check, format!("{user}, with sudo")),
            Sudo::Doubtful => {
                let seen = format!("{user} is in none of the groups sudo, wheel and admin");
                Finding::warning(group, check, seen, allow)
            }
            Sudo::Refuses => {
                let seen = format!("sudo does not let {user} start any program");
                Finding::failure(group, check, seen, allow)
            }
            Sudo::Missing => {
                let help = "run the engine as root, or install sudo and allow this user to use it";
                Finding::failure(group, check, format!("{user}, without sudo"), help)
            }
        }
    }

    /// Finding about the ids of labs: they have to be registered, and root has to be allowed to use them where LXC maps ids by a helper.
    fn sub_ids(&self, check: &'static str, registered: Registered) -> Finding {
        let group = Group::Permission;
        let IdRange { first, count } = self.ids;
        let range = format!("{first}-{}", u64::from(first) + u64::from(count) - 1);
        let helper = self.map_helpers.first();
        let (seen, user) = match helper {
            Some(_) if registered.for_root => {
                return Finding::ok(group, check, format!("root may use the ids {range}"));
            }
            Some(helper) => {
                (format!("LXC maps ids by {}, which does not let root use the ids {range}", helper.display()), "root")
            }
            None if registered.at_all => return Finding::ok(group, check, format!("{range} are registered")),
            None => (
                format!("the ids {range} of labs are not registered in /etc/{check}: another user may be given some"),
                REGISTERED_AS,
            ),
        };
        let (ranges, start) =
            if check == "subuid" { ("subUidRanges", "startUid") } else { ("subGidRanges", "startGid") };
        if self.supply == Supply::Nix {
            // No program changes the file there. Root is the only user that the labs are sure to have.
            let allow = format!(
                "users.users.root.{ranges} = [ {{ {start} = {first}; count = {count}; }} ]; in the system's configuration"
            );
            return Finding::warning(group, check, seen, allow);
        }
        let line = registration(&format!("/etc/{check}"), user, (first, count));
        Finding::warning(group, check, seen, "cargo xtask setup").running(Some(line))
    }

    fn claims(&self) -> Finding {
        let (group, check) = (Group::Permission, "ids");
        let IdRange { first, count } = self.ids;
        let range = format!("{first}-{}", u64::from(first) + u64::from(count) - 1);
        let Some(claim) = self.claims.first() else {
            return Finding::ok(group, check, format!("no other user, group or container has ids of {range}"));
        };
        let more = if self.claims.len() == 1 { String::new() } else { format!(", and {} more", self.claims.len() - 1) };
        let seen = format!("labs have the ids {range}, and {claim}{more}: whoever has one could stop a lab's programs");
        let help = match (&self.slot_ids, self.free_first_id) {
            (SlotIds::Shared(_), _) => "give those users, groups or containers other ids".to_owned(),
            (_, Some(free)) => format!("ids = {{ first = {free} }} in e2e.toml"),
            (_, None) => "give those users, groups or containers ids below 1879048192".to_owned(),
        };
        Finding::warning(group, check, seen, help)
    }
}

/// Returns the shell command that adds a range to `/etc/subuid` or `/etc/subgid`, whether or not the file ends in a newline.
#[must_use]
pub fn registration(file: &str, user: &str, (first, count): (u32, u32)) -> String {
    format!(
        "if [ -n \"$(tail -c 1 {file} 2>/dev/null)\" ]; then echo >>{file}; fi; echo {user}:{first}:{count} >>{file}"
    )
}
