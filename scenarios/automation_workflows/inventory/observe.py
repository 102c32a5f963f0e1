"""What a machine says of itself, without Mancer and the commands that it uses: from files and from the kernel."""

import re

import e2e

LISTENING = "0A"


def machine(container: e2e.Container) -> dict:
    return {
        "name": text(container, "/proc/sys/kernel/hostname").strip(),
        "system": re.search(r'^PRETTY_NAME="(.*)"$', text(container, "/etc/os-release"), re.MULTILINE)[1],
        "users": users(container),
        "services": services(container),
        "packages": packages(container),
        "ports": ports(container),
        "processes": processes(container),
        "ssh_files": ssh_files(container),
        "ssh_config": [line for line in text(container, "/etc/ssh/sshd_config").splitlines() if meaningful(line)],
    }


def disks(container: e2e.Container, paths) -> dict:
    """Sizes of file systems in bytes, as statfs has them."""
    rows = container.exec(["stat", "--file-system", "--format=%S %b %n", *paths]).success().stdout_text.splitlines()
    split = [row.split(" ", 2) for row in rows]
    return {path: int(block) * int(blocks) for block, blocks, path in split}


def users(container):
    rows = [line.split(":") for line in text(container, "/etc/passwd").splitlines()]
    return {row[0]: int(row[2]) for row in rows if row[6] in ("/bin/sh", "/bin/bash")}


def services(container):
    shown = said(container, "systemctl show '*.service' --property=Id --property=SubState")
    units = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.strip().split("\n\n")]
    return {unit["Id"] for unit in units if unit["SubState"] == "running"}


def packages(container):
    """Packages and their versions, from dpkg's own records."""
    found = {}
    for block in text(container, "/var/lib/dpkg/status").strip().split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", block, re.MULTILINE))
        if fields["Status"].endswith(" installed"):
            found[fields["Package"]] = fields["Version"]
    return found


def ports(container):
    """Ports that something listens on, from the kernel's own tables."""
    rows = [line.split() for line in said(container, "cat /proc/net/tcp /proc/net/tcp6").splitlines()]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == LISTENING}


def processes(container):
    """Commands by process number."""
    listed = said(container, "grep --with-filename '' /proc/[0-9]*/comm 2>/dev/null || true")
    return {int(line.split("/")[2]): line.partition(":")[2] for line in listed.splitlines()}


def ssh_files(container):
    listed = said(container, 'cd /etc/ssh && for file in *.pub; do wc -c "$file"; done')
    return {f"/etc/ssh/{name}": int(size) for size, name in (line.split(" ", 1) for line in listed.splitlines())}


def meaningful(line):
    return line.strip() and not line.strip().startswith("#")


def text(container, path):
    return container.get(path).decode()


def said(container, line):
    return container.sh(line).success().stdout_text
