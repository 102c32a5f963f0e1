//! Debian package: an `ar` archive of the format's version, the control data for dpkg, and the files to install.

use flate2::Compression;

use super::program::Linkage;
use super::tree::{MADE_UNIX_S, Tree};
use super::{DESCRIPTION, NAME};
use crate::host::tools::packages::{ITEMS, Manager, Need, Order, Use};

/// Returns Debian's name of this machine's architecture.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "i386",
        "arm" => "armhf",
        "powerpc64" => "ppc64el",
        other => other, // riscv64, s390x, loongarch64
    }
}

/// Returns the Debian package's bytes.
///
/// # Errors
/// If a path is too long for tar.
pub fn package(version: &str, linkage: &Linkage, files: &Tree, compression: Compression) -> anyhow::Result<Vec<u8>> {
    let mut control = Tree::default();
    control.add("control", self::control(version, linkage, files.size_bytes()));
    let (control, data) = (control.tar_gz(".", compression)?, files.tar_gz(".", compression)?);
    Ok(ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &control), ("data.tar.gz", &data)]))
}

/// Relation of the engine's package to the package of a dependency, such as a tool.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Relation {
    Depends,
    Recommends,
    Suggests,
    None,
}

/// Returns the relation to a dependency's package: Depends if some template or fault needs it, Recommends if only some kernels need it or
/// it lets an ordinary user become root, Suggests if only a single feature needs it.
const fn relation(need: Need) -> Relation {
    match need {
        Need::Where(Use::AppArmor) | Need::Tests => Relation::Recommends,
        Need::Required | Need::Where(_) | Need::Faults => Relation::Depends,
        Need::Optional => Relation::Suggests,
        Need::Repository => Relation::None,
    }
}

/// Returns the `control` file, which dpkg reads.
fn control(version: &str, linkage: &Linkage, size_bytes: usize) -> String {
    let packages = |wanted: Relation| {
        let items: Vec<&str> =
            ITEMS.iter().filter(|item| relation(item.need) == wanted).map(|item| item.name).collect();
        Order::new(Manager::Apt, &items).packages
    };
    let mut depends: Vec<String> = packages(Relation::Depends).into_iter().map(str::to_owned).collect();
    if let Linkage::Dynamic { glibc } = linkage {
        depends.extend([format!("libc6 (>= {glibc})"), "libgcc-s1".to_owned()]);
    }
    depends.sort();
    let size_kib = size_bytes.div_ceil(1024);
    let (recommends, suggests) = (packages(Relation::Recommends).join(", "), packages(Relation::Suggests).join(", "));
    format!(
        "Package: {NAME}\n\
         Version: {version}\n\
         Architecture: {}\n\
         Maintainer: The {NAME} authors\n\
         Installed-Size: {size_kib}\n\
         Depends: {}\n\
         Recommends: {recommends}\n\
         Suggests: {suggests}\n\
         Section: devel\n\
         Priority: optional\n\
         Description: {DESCRIPTION}\n \
         Builds machines from templates, connects them, runs scenarios against\n \
         them while it injects faults, and records everything.\n",
        architecture(),
        depends.join(", "),
    )
}

/// Returns an archive in the format of `ar`: each member has a header with its name, time, owner, group, mode and length as text, and
/// begins at an even offset.
fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let head = format!("{name:<16}{MADE_UNIX_S:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, "100644", content.len());
        bytes.extend(head.bytes());
        bytes.extend(*content);
        if content.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(control: &str, name: &str) -> Vec<String> {
        let line = control.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap();
        line.split(", ").map(str::to_owned).collect()
    }

    #[test]
    fn it_depends_on_what_doctor_calls_required() {
        let control = control("1.2.3", &Linkage::Static, 2049);
        let depends = field(&control, "Depends");
        for package in ["lxc", "mmdebstrap", "busybox-static", "python3-pip", "iproute2", "nftables", "mount"] {
            assert!(depends.iter().any(|it| it == package), "{package}: {depends:?}");
        }
        for item in ITEMS.iter().filter(|item| item.need == Need::Required) {
            let package = Order::new(Manager::Apt, &[item.name]).packages[0];
            assert!(depends.iter().any(|it| it == package), "{}", item.name);
        }
        assert_eq!(field(&control, "Recommends"), ["apparmor", "sudo"]);
        assert!(field(&control, "Suggests").iter().any(|it| it == "chromium"));
        assert_eq!(
            (field(&control, "Installed-Size"), field(&control, "Version")),
            (vec!["3".into()], vec!["1.2.3".into()])
        );
        assert!(!control.contains("libc6") && control.ends_with("everything.\n"), "{control}");
        let dynamic = super::control("1.2.3", &Linkage::Dynamic { glibc: "2.34".into() }, 1);
        assert!(field(&dynamic, "Depends").iter().any(|it| it == "libc6 (>= 2.34)"), "{dynamic}");
    }

    #[test]
    fn members_begin_at_even_places_behind_sixty_characters() {
        let bytes = ar(&[("a", b"123"), ("debian-binary", b"2.0\n")]);
        let expected = "!<arch>\n\
             a               1700000000  0     0     100644  3         `\n123\n\
             debian-binary   1700000000  0     0     100644  4         `\n2.0\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}
