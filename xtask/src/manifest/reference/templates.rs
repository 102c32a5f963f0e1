//! Content of the reference page `docs/templates.md`.

use super::document::{Missing, Others, Page, Section, duration, size};
use crate::manifest::Template;
use crate::manifest::range::words_of;

const SOURCE: &str = include_str!("../template.rs");

const BEGINNING: &str = "\
A template is the recipe of a machine: `containers/NAME/template.toml`, with the files that it copies beside it. `NAME` is made of a-z,
0-9, '-' and '_'. `cargo xtask image build` makes layers of all of them, and a run those that it needs and that have changed.

A layer is built as root of the containers' user namespace, with 4096 processes and at least 2 GiB of memory, in a network of its own:
what a build runs reaches registries and other machines through slirp4netns, as a user of the host could, and neither the host's loopback nor
169.254.0.0/16, where clouds hand out credentials. A proxy at 127.0.0.1 that the environment names, such as by `https_proxy`, is
reached. Where slirp4netns or `/dev/net/tun` is missing, a build has no network, and one with packages is refused.
";

const EXAMPLE: &str = r#"
from = { debian = "bookworm" }
packages = ["nginx", "python3"]
init = "systemd"
run = [
  "install -d -o web /srv/site",                # a line for /bin/sh
  ["/usr/bin/python3", "-c", "import this"],    # a program with its arguments
]
logs = ["/var/log/nginx/*.log"]
environment = { LC_TIME = "C.UTF-8" }
privileged = false
allow = ["user_namespaces"]

[pip]
requirements = "requirements.txt"
target = "/opt/python"
python = "3.11"

[[files]]
source = "files/site.conf"
target = "/etc/nginx/conf.d/site.conf"
mode = "0644"
owner = "root:root"

[[files]]
program = "busybox"
target = "/usr/local/bin/busybox"

[[users]]
name = "web"
uid = 1000
shell = "/bin/bash"
groups = ["www-data"]

[services]
enable = ["nginx.service"]
mask = ["apt-daily.timer"]

[[volumes]]
path = "/srv/data"
size = "64M"
kind = "ext4"

[limits]
memory = "256M"
cpus = 1.5
pids = 256
disk = "128M"

[[probes]]
tcp = 22

[[probes]]
http = ":8080/health"
timeout = "10s"

[[probes]]
exec = ["/usr/bin/test", "-s", "/run/site.pid"]

[[probes]]
file = "/run/site.pid"

[[probes]]
unit = "nginx.service"

[ssh]
clients = ["web"]
accepts = ["web"]
"#;

const SECTIONS: &[Section] = &[
    Section { heading: "The file", about: "", place: &[], rust_type: "File", ..TABLE },
    Section { heading: "[pip]", about: "", place: &["pip"], rust_type: "PipTable", ..TABLE },
    Section {
        heading: "[[files]]",
        about: "A folder is copied with all that is in it. Each has a `source` or a `program`.",
        place: &["files"],
        rust_type: "FileTable",
        ..TABLE
    },
    Section {
        heading: "[[users]]",
        about: "Each gets a group of its name and number, a home in `/home`, and no password.",
        place: &["users"],
        rust_type: "UserEntry",
        ..TABLE
    },
    Section {
        heading: "[services]",
        about: "",
        place: &["services"],
        rust_type: "Services",
        missing: Missing::ByTable,
        ..TABLE
    },
    Section {
        heading: "[[volumes]]",
        about: "A disk that can be filled, or break, without the host's noticing. Faults of disks need one, most of them of `ext4`.",
        place: &["volumes"],
        rust_type: "Volume",
        ..TABLE
    },
    Section {
        heading: "[limits]",
        about: "",
        place: &["limits"],
        rust_type: "Limits",
        missing: Missing::ByTable,
        ..TABLE
    },
    Section {
        heading: "[[probes]]",
        about: "Each has exactly one of `tcp`, `http`, `exec`, `file` and `unit`.",
        place: &["probes"],
        rust_type: "ProbeTable",
        ..TABLE
    },
    Section { heading: "[ssh]", about: "", place: &["ssh"], rust_type: "Ssh", missing: Missing::ByTable, ..TABLE },
];

const TABLE: Section = Section {
    heading: "",
    about: "",
    place: &[],
    source: SOURCE,
    rust_type: "",
    keys: None,
    missing: Missing::ByKey,
    others: Others::Refused,
};

fn words() -> Vec<(&'static str, String)> {
    let range = |name| words_of(name).unwrap();
    vec![
        ("FromKey", "text or table".into()),
        ("InitKey", "text or list of text".into()),
        ("RunStep", "lines and lists of text".into()),
        (
            "Variables",
            format!("table of text, each key {}, each value {}", range("VariableName"), range("VariableValue")),
        ),
    ]
}

/// Parses a template that has the files which the example names beside it.
fn read(text: &str) -> Result<Template, String> {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("web");
    std::fs::create_dir_all(template.join("files")).unwrap();
    for (name, text) in [("template.toml", text), ("requirements.txt", ""), ("files/site.conf", "")] {
        std::fs::write(template.join(name), text).unwrap();
    }
    let mut found = Template::read_all(folder.path()).map_err(|error| error.to_string())?;
    Ok(found.remove("web").unwrap())
}

/// Returns the default values of keys, from a minimal template.
fn defaults() -> Vec<(&'static str, String)> {
    let least = "from = 'scratch'\ninit = ['/init']\n[[users]]\nname = 'u'\nuid = 1000\n[[volumes]]\npath = '/v'\n\
                 size = '1M'\n[[probes]]\ntcp = 1\n";
    let Template { limits, users, volumes, probes, .. } = read(least).unwrap();
    vec![
        ("[[users]] shell", format!("{:?}", users[0].shell)),
        ("[[volumes]] kind", format!("{:?}", format!("{:?}", volumes[0].kind).to_lowercase())),
        ("[limits] memory", size(limits.memory)),
        ("[limits] cpus", format!("{:?}", limits.cpus)),
        ("[limits] pids", limits.pids.to_string()),
        ("[limits] disk", size(limits.disk)),
        ("[[probes]] timeout", duration(probes[0].timeout)),
    ]
}

#[test]
fn the_page_is_what_the_parser_reads() {
    let page = Page {
        path: "docs/templates.md",
        title: "Templates: template.toml",
        beginning: BEGINNING,
        examples: &[("All that can be said:", EXAMPLE)],
        sections: SECTIONS,
        words: words(),
        defaults: defaults(),
        parse: |text| read(text).map(drop),
    };
    page.hold();
}
