//! The host's browser, and the command line with which it takes a picture of a page inside a network namespace: as an ordinary user, with
//! its own sandbox on, without a profile, a desktop or a route to other networks.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::packages::Item;
use crate::host::exec::shell::{search_path, which};
use crate::host::invoker::Invoker;
use crate::host::syntax::{HostName, ResolverRules, Text, compose};
use crate::program;

/// Width and height of a picture, in pixels.
pub const SIZE: (u32, u32) = (1024, 768);

/// Folders below `/etc` in which browsers look for the host's policies.
const POLICY_FOLDERS: [&str; 3] =
    ["chromium/policies/managed", "chromium-browser/policies/managed", "opt/chrome/policies/managed"];

/// Shell script that lays a folder over `/etc`, only for this process and its children, and runs a program.
const WITH_OWN_ETC: &str = r#""$1" -t overlay -o "ro,lowerdir=$2:/etc" overlay /etc || exit; shift 2; exec "$@""#;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
const HEADER: &[u8] = b"\0\0\0\x0dIHDR";
const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";

/// Browser that is installed on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Browser {
    program: PathBuf,
}

/// Picture to take of a page.
#[derive(Debug)]
pub struct Shot<'a> {
    /// Path of the network namespace that the picture is taken in.
    pub network: &'a Path,
    /// Names that the browser resolves, each with its address; no other name resolves.
    pub hosts: &'a [(String, Ipv4Addr)],
    pub url: &'a str,
    /// User who runs the browser; not root.
    pub user: &'a Invoker,
    /// Folder that root owns, for the files of this picture only.
    pub dir: &'a Path,
}

impl Browser {
    /// Finds the best browser that is installed; the error names what is missing and how to install it.
    pub fn find() -> Result<Self, String> {
        let item = Item::named("chromium");
        item.program().map(|program| Self { program }).ok_or_else(|| {
            let names = item.programs.join(", ");
            format!("this host has no browser ({names}): `{} setup --optional` installs one", program::name())
        })
    }

    /// Returns the command that takes the picture, run as root: it enters the network, lays [`Shot::policy_files`] over `/etc` in a mount
    /// namespace of its own, and gives up root's rights for good. It stays one process throughout, so that the browser dies with the
    /// command's parent.
    pub fn command(&self, shot: &Shot<'_>) -> anyhow::Result<Vec<String>> {
        let tool = |name: &str| {
            let path = which(name)
                .with_context(|| format!("{name} is not installed: `{} setup` installs it", program::name()))?;
            anyhow::Ok(show(&path))
        };
        let user = shot.user;
        ensure!(!user.is_root(), "the browser cannot run as root: Chromium refuses that while its sandbox is on");
        let mut words = vec![tool("nsenter")?, format!("--net={}", show(shot.network))];
        words.extend([tool("unshare")?, "--mount".into(), "--".into()]);
        words.extend(["/bin/sh", "-c", WITH_OWN_ETC, "sh"].map(String::from));
        words.extend([tool("mount")?, show(&shot.etc())]);
        words.extend([tool("setpriv")?, format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]);
        // Changing the user has made the kernel forget with whom the process is to die.
        words.extend(["--clear-groups", "--no-new-privs", "--pdeathsig=KILL", "--"].map(String::from));
        words.push(show(&self.program));
        words.extend(FLAGS.iter().map(|flag| (*flag).to_owned()));
        words.extend([
            format!("--window-size={},{}", SIZE.0, SIZE.1),
            format!("--user-data-dir={}", show(&shot.home().join("profile"))),
            format!("--host-resolver-rules={}", resolver_rules(shot.hosts)?),
            format!("--screenshot={}", show(&shot.picture())),
            shot.url.to_owned(),
        ]);
        Ok(words)
    }
}

/// Flags for each picture: no use of `/dev/shm`, which may be small or missing, no requests to the browser's makers, and no welcome page.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

impl Shot<'_> {
    /// Returns the user's folder: home, profile, temporary files and the picture.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    #[must_use]
    pub fn picture(&self) -> PathBuf {
        self.home().join("picture.png")
    }

    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn etc(&self) -> PathBuf {
        self.dir.join("etc")
    }

    /// Returns the files to write before the browser starts, with their texts. Browsers know a list of top-level domains that must be
    /// reached by HTTPS, some of which are names that a container may well have (`app`, `dev`, `page`, `new`). Only a policy of the host
    /// removes these from the list.
    #[must_use]
    pub fn policy_files(&self) -> Vec<(PathBuf, String)> {
        let names: Vec<&str> = self.hosts.iter().map(|(name, _)| name.as_str()).collect();
        let policy = json!({ "HSTSPolicyBypassList": names }).to_string();
        let file = |folder: &str| (self.etc().join(folder).join("mancer-e2e.json"), policy.clone());
        POLICY_FOLDERS.map(file).into()
    }

    /// Returns the folders to make before the browser starts, owned by root and readable for all, each after its parent.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.dir.to_owned()];
        for (file, _) in self.policy_files() {
            let above = file.ancestors().skip(1).take_while(|folder| *folder != self.dir);
            let above: Vec<PathBuf> = above.map(Path::to_owned).collect();
            folders.extend(above.into_iter().rev());
        }
        folders.dedup();
        folders
    }

    /// Returns the complete environment of the browser.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let home = show(&self.home());
        let path = search_path();
        let variables = [("HOME", &*home), ("TMPDIR", &home), ("PATH", &path), ("LANG", "C.UTF-8"), ("TZ", "UTC")];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }
}

/// Returns the value of Chromium's `--host-resolver-rules`: the names of `hosts` lead to their addresses, and every other name fails at
/// once, without a query to a name server that does not answer. The addresses of `hosts` are excluded, so that URLs with them work.
fn resolver_rules(hosts: &[(String, Ipv4Addr)]) -> anyhow::Result<Text<ResolverRules>> {
    let map = |(name, address): &(String, Ipv4Addr)| {
        let name = HostName::new(name)?;
        anyhow::Ok(compose!(ResolverRules, "MAP {name} {address}, ", name = name, address = *address))
    };
    let mapped: Text<ResolverRules> = hosts.iter().map(map).collect::<anyhow::Result<_>>()?;
    let exclude =
        |(_, address): &(String, Ipv4Addr)| compose!(ResolverRules, ", EXCLUDE {address}", address = *address);
    let excluded: Text<ResolverRules> = hosts.iter().map(exclude).collect();
    Ok(mapped + compose!(ResolverRules, "MAP * ~NOTFOUND") + excluded)
}

/// Returns the reason why the browser could not load the page, in its own words (`net::ERR_...`).
#[must_use]
pub fn page_error(log: &str) -> Option<&str> {
    log.lines().rev().find_map(|line| line.split_once("Page load failed: ")).map(|(_, error)| error.trim())
}

/// Returns the browser's output, without its complaints that there is no desktop.
#[must_use]
pub fn words(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains(":ERROR:dbus/")).collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

/// Returns help where the browser said that it has no sandbox.
#[must_use]
pub fn help(log: &str) -> Option<&'static str> {
    log.contains("No usable sandbox").then_some(
        "let users make user namespaces: `sysctl kernel.unprivileged_userns_clone=1`, or where AppArmor forbids it \
         `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
    )
}

/// Checks that these bytes are a whole PNG of [`SIZE`].
pub fn check_picture(bytes: &[u8]) -> anyhow::Result<()> {
    let header =
        bytes.strip_prefix(SIGNATURE).and_then(|rest| rest.strip_prefix(HEADER)).context("the picture is no PNG")?;
    let number = |at: usize| header.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes);
    let size = number(0).zip(number(4)).context("the picture ends in its header")?;
    ensure!(bytes.ends_with(END), "the picture has no end: only {} bytes were written", bytes.len());
    ensure!(size == SIZE, "the picture has {} x {} pixels instead of {} x {}", size.0, size.1, SIZE.0, SIZE.1);
    Ok(())
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_shot<T>(user: &Invoker, look: impl FnOnce(&Shot<'_>) -> T) -> T {
        let hosts = [("app".to_owned(), Ipv4Addr::new(10, 77, 0, 11)), ("db".to_owned(), Ipv4Addr::new(10, 77, 0, 12))];
        let (network, dir) = (Path::new("/proc/1/fd/7"), Path::new("/run/mancer-e2e/1/picture"));
        look(&Shot { network, hosts: &hosts, url: "http://app/status", user, dir })
    }

    fn command(user: &Invoker) -> anyhow::Result<Vec<String>> {
        let browser = Browser { program: "/usr/bin/chromium".into() };
        with_shot(user, |shot| browser.command(shot))
    }

    #[test]
    fn the_command_enters_the_network_first_and_gives_up_root_before_the_browser_runs() {
        let words = command(&Invoker::nobody()).unwrap();
        let at = |word: &str| {
            let found = words.iter().position(|it| it == word || it.ends_with(&format!("/{word}")));
            found.unwrap_or_else(|| panic!("no {word} in {words:?}"))
        };
        let order = ["nsenter", "--net=/proc/1/fd/7", "unshare", "setpriv", "--reuid=65534", "--no-new-privs"];
        let order = order.iter().chain(&["--pdeathsig=KILL", "chromium", "--headless=new"]).map(|word| at(word));
        assert!(order.is_sorted(), "{words:?}");
        assert_eq!(words.last().unwrap(), "http://app/status");
        assert!(!words.iter().any(|word| word.contains("no-sandbox")), "{words:?}");
        for word in ["--clear-groups", "--regid=65534", "--window-size=1024,768"] {
            at(word);
        }
    }

    #[test]
    fn a_browser_never_runs_as_root() {
        let root = Invoker { uid: 0, gid: 0, groups: vec![0], name: "root".into(), home: None };
        assert!(command(&root).unwrap_err().to_string().contains("root"));
    }

    #[test]
    fn only_the_labs_names_resolve() {
        let rules = with_shot(&Invoker::nobody(), |shot| resolver_rules(shot.hosts).unwrap().into_string());
        assert_eq!(
            rules,
            "MAP app 10.77.0.11, MAP db 10.77.0.12, MAP * ~NOTFOUND, EXCLUDE 10.77.0.11, EXCLUDE 10.77.0.12"
        );
    }

    #[test]
    fn folders_come_before_what_lies_in_them() {
        with_shot(&Invoker::nobody(), |shot| {
            let folders = shot.folders();
            for (file, content) in shot.policy_files() {
                assert!(folders.contains(&file.parent().unwrap().to_owned()), "{}", file.display());
                assert_eq!(content, r#"{"HSTSPolicyBypassList":["app","db"]}"#);
            }
            for (place, folder) in folders.iter().enumerate().skip(1) {
                assert!(folders[..place].contains(&folder.parent().unwrap().to_owned()), "{folders:?}");
            }
        });
    }

    #[test]
    fn what_the_browser_said_is_told_from_its_noise() {
        let log = "[1:2:3/4.5:ERROR:dbus/bus.cc:405] Failed to connect to the bus\n\
                   [1:1:3/4.5:ERROR:a/b.cc:403] Page load failed: net::ERR_CONNECTION_REFUSED\n";
        assert_eq!(page_error(log), Some("net::ERR_CONNECTION_REFUSED"));
        assert_eq!(page_error("7 bytes written to file x"), None);
        assert!(!words(log).contains("dbus") && words(log).contains("REFUSED"), "{}", words(log));
        assert!(help("FATAL: No usable sandbox! If this is a Debian system ...").unwrap().contains("userns"));
        assert_eq!(help(log), None);
    }

    /// Returns a PNG of this size whose header and end are right, but which has no pixels.
    fn png(width: u32, height: u32) -> Vec<u8> {
        [SIGNATURE, HEADER, &width.to_be_bytes(), &height.to_be_bytes(), &[8, 2, 0, 0, 0, 1, 2, 3, 4], END].concat()
    }

    #[test]
    fn only_a_whole_picture_of_the_right_size_is_one() {
        let whole = png(SIZE.0, SIZE.1);
        check_picture(&whole).unwrap();
        for (bytes, reason) in [
            (&b""[..], "no PNG"),
            (b"<html>", "no PNG"),
            (&whole[..8], "no PNG"),
            (&whole[..18], "ends in its header"),
            (&whole[..whole.len() - 1], "no end"),
            (&png(800, 600), "800 x 600 pixels instead of 1024 x 768"),
        ] {
            let error = check_picture(bytes).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
