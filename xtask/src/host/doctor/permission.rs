//! What the engine may do here.

use super::facts::Facts;
use super::finding::{Finding, Group};
use crate::host::packages::{Manager, Supply, WayToRoot};
use crate::host::sudo::Sudo;

pub fn findings(facts: &Facts) -> Vec<Finding> {
    vec![
        facts.root(),
        facts.sub_ids("subuid", facts.subuid_allows, "--add-subuids"),
        facts.sub_ids("subgid", facts.subgid_allows, "--add-subgids"),
    ]
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
                let cure = "run this as root, or install sudo as root and let this user use it";
                Finding::failure(group, check, format!("{user}, without sudo"), cure)
            }
        }
    }

    fn sub_ids(&self, check: &'static str, is_allowed: bool, flag: &str) -> Finding {
        let group = Group::Permission;
        let (first, last) = (self.ids_first, u64::from(self.ids_first) + u64::from(self.ids_count) - 1);
        let Some(helper) = self.map_helpers.first() else {
            return Finding::ok(group, check, "not needed: LXC as root maps ids by itself");
        };
        if is_allowed {
            return Finding::ok(group, check, format!("root may use {first}-{last}"));
        }
        let seen = format!("{} stands in LXC's PATH, and root may not use {first}-{last}", helper.display());
        let (range, start) =
            if check == "subuid" { ("subUidRanges", "startUid") } else { ("subGidRanges", "startGid") };
        let allow = match self.supply {
            Supply::Nix => format!(
                "users.users.root.{range} = [ {{ {start} = {first}; count = {}; }} ]; in the system's configuration",
                self.ids_count
            ),
            _ => self.as_root(&format!("usermod {flag} {first}-{last} root")),
        };
        Finding::warning(group, check, seen, allow)
    }
}
