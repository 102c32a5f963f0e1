"""Contract of Mancer's commands and services: on app each kind of command, on worker what Mancer manages there.

The programs in `fixtures` are written the way Mancer's users write Python. The expected value of each of their facts is listed here or
in `expected.py`, or read from the machines without Mancer. `fixtures/probes.py` tries the known defects.
"""

import hashlib
import json
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import e2e
import expected

sys.path.append(str(Path(__file__).parents[2] / "common"))
from marks import known_defects  # noqa: E402 (it lies there)
from measured import Operations  # noqa: E402

FOLDER, PASSWORD = "/srv/commands", "open-sesame"
#: Programs on app that see the facts: all at once, but for the last one, which changes packages, units and ports that others look at.
PROGRAMS = ("commands.py", "services.py", "records.py", "logs.py", "system.py")
#: Program that tries the known defects.
PROBES = "probes.py"
#: Deadline of each program, in seconds: the whole case takes 11 s on two idle cores; the rest is headroom.
DEADLINE = 60

LONG = "".join(f"{number}\n" for number in range(1, 300_001)).encode()
LONG_DIGEST = hashlib.sha256(LONG).hexdigest()
ROWS = [
    {"name": "a b", "kind": "file", "note": "zażółć"},
    {"name": "c", "kind": "folder", "note": ""},
    {"name": "d", "kind": "file", "note": "the last"},
]
VALUES = [list(row.values()) for row in ROWS]


def on_both(name, expected):
    return {f"{name} on {machine}": expected for machine in ("app", "worker")}


#: Expected facts of commands.py.
COMMANDS = {
    **on_both(
        "exit codes and success of commands",
        [[0, True], [1, False], [255, False], [126, False], [127, False], [143, False]],
    ),
    # As Python's subprocess has it, and as ssh has it.
    "the exit code of a command that a signal ends on app": -15,
    "the exit code of a command that a signal ends on worker": 255,
    **on_both("exit codes of custom commands", [0, 3, 127]),
    **on_both(
        "both streams of commands that succeed and fail",
        [["to stdout\n", None], ["to stdout\n", "to stderr\n"], [4, "to stdout\n", "to stderr\n"]],
    ),
    **on_both("two megabytes of output", [[len(LONG), LONG_DIGEST]] * 2),
    **on_both("two megabytes of input, as the command got them", LONG_DIGEST),
    **on_both("text beyond ASCII, there and back", "zażółć gęślą jaźń, 5 €\tand on\n"),
    "the folder that commands on app run in": [True, "two words\n", "inner/deep"],
    "the folder that commands on worker run in": ["/tmp/two words\n", "here\n"],
    **on_both("a variable that the backend sets", "deep 'blue' $HOME"),
    "user and machine of a remote command": "mancer on worker at 22\n",
    "the port of a remote command": "mancer on worker at 2222\n",
    "a login by a key of one's own": "second on worker at 22\n",
    "a login without the key": [255, ""],
    "a login by a password": [0, "second on worker at 22\n"],
    "a login by a wrong password": [255, ""],
    "a machine that has its address from the connection's options": "mancer on worker at 22\n",
    "what a check of a connection says: one that works, a closed port, an unknown user": [
        [True, True],
        [False, False],
        [False, False],
    ],
    **on_both("what a chain of three leaves behind", "a\nb\nc\n"),
    **on_both("the folder that a chain goes to", "/etc/ssh\n"),
    **on_both("going to a folder that is not there", [1, False]),
    **on_both("three commands in a pipe", "18\n19\n20\n"),
    "a pipe into a custom command": "3\n2\n1\n",
    "what a chain says of itself": [["echo x", "cat", "hostname"], [False, True, False], 3],
    "a copied tree: texts, permissions and times": ["1\n2\n3\n", "640", 1_000_000_000, "two words\n"],
    "a copy on worker": "same",
    "the last lines and the last bytes of a file": ["2\n3\n", "\n3\n"],
    "the first lines of a file": "1\n2\n",
    "heads and tails of two files, row by row": [["a", "1"], ["b", "one"], ["a", "3"], ["b", "two."]],
    "options of cat: line numbers, ends, blank lines": [
        "     1\t1\n     2\t2\n     3\t3\n",
        "1$\n2$\n3$\n",
        "one\nTwo\n\ntwo.\n",
    ],
    "what cat and echo write to files": "1\n2\n3\ntwo words\nend",
    "options of grep: case, count, numbers, parts, plain words, folders": [
        "2\n",
        "5:two.\n",
        "two\n",
        "two.\n",
        "inner/deep:two words\n",
    ],
    "the rows of grep with file and number": [
        {"file": "b", "line_number": "1", "content": "one"},
        {"file": "b", "line_number": "2", "content": "Two"},
        {"file": "b", "line_number": "5", "content": "two."},
    ],
    "a grep that finds nothing": [1, False, []],
    "what find finds: folders, large files, old files, and what it runs": [
        [".", "inner"],
        ["b", "inner/deep"],
        ["a"],
        "two words\n",
    ],
    "what ls lists: all files, by size, by time, and its columns": [
        [".", "..", ".hidden", "a", "b", "inner"],
        "a",
        "a",
        ["-rw-r-----", "mancer", "mancer", "6"],
    ],
    "heads and tails with and without names of files, cat with tabs": [
        "==> a <==\n1\n",
        "3\ntwo.\n",
        "x^Iy\n",
        "x^Iy$\n",
    ],
    "readable sizes of files in another folder": [["deep", "10"]],
    "command lines that options make": [
        "cp -f -i -v a b",
        "netstat -a -u -p -r",
        "ps -f -l",
        "echo -e x",
        "ls --color=never --classify",
        "apt search word",
        "apt remove -y word",
        "apt upgrade -y --no-install-recommends",
        "apt autoremove -y",
    ],
    "lines, words and bytes that wc counts": [[[5, 3, 15]], [[5]], [[3]], [[15]], [[15]]],
    "the file system of a mount point": "/",
    "the history of a ps that succeeds and one that fails": [[["ps", "-e"], True], [["ps", "--no-such"], False]],
    "a history, written as a dictionary and read": [1, ["ps", "--no-such"], 1, False, None],
    "rows of a custom command: from JSON, from names with values, from lines": [
        [{"id": 1}, {"id": 2}],
        [{"name": "x: y"}, {"size": "5"}],
        [{"line": "plain"}, {"line": "last"}],
    ],
    "a custom command as root": "0\n",
    "a command by its alias, an unknown alias, an unknown command": ["2\n3\n", None, None],
    "names of commands in two languages, and a third one": [
        "Lista plików",
        "File listing",
        "Unsupported language: de",
    ],
    "whether packages are installed": [["TRUE"], ["FALSE"]],
    "a unit that runs, one that is enabled and one that is not there": [
        [0, "active\n"],
        [0, "enabled\n"],
        [3, "inactive\n"],
    ],
    "rows as JSON, and back": [ROWS, ROWS, True],
    "rows as a DataFrame, and back": [["name", "kind", "note"], VALUES, ROWS],
    "rows as an array of NumPy, and back": [[3, 3], VALUES, VALUES],
    "a DataFrame as JSON": ROWS,
    "what a conversion keeps of a result": ["raw", False, 5, "json"],
    "one field of all rows": ["a b", "c", "d"],
    "names of formats": ["list", "dataframe", "ndarray", "json", "table"],
}

#: Expected facts of services.py.
SERVICES = {
    "a unit, stopped, started, restarted, enabled and disabled: what worker says after each": [
        [
            [True, "inactive disabled"],
            [True, "active disabled"],
            [True, "active disabled"],
            [True, "active disabled"],
            [True, "active enabled"],
            [True, "active disabled"],
        ],
        True,
        True,
    ],
    "the status of a unit that runs, and of one that is not there": [
        ["cron.service", "active", "running", "service"],
        None,
    ],
    "units that are failed and units that are not": [[True, False, True], [False, True, True], [False, False, True]],
    "units by type, by pattern and by state": [["timer"], ["cron.service", "ssh.service"], ["active"]],
    "a report on units": [
        "Raport jednostek systemd dla worker",
        "✓ cron.service - active/running - Regular background program processing daemon",
    ],
    "a unit's log, and its last four lines": [["line 1", "line 2", "line 3", "line 4", "line 5"], 4, True],
    "what the service of units says: of a status, and of an action that there is not": [
        ["success", True],
        ["error", False],
    ],
    "units counted by state and type": [
        {"total": 3, "active": 1, "inactive": 1, "failed": 1},
        ["a.service - active", "b.service - failed"],
        ["c.timer - inactive"],
    ],
    "a report on units that were counted": [
        "Raport jednostek systemd dla worker",
        "Aktywne: 1",
        "Uszkodzone: 1",
        "b.timer - failed",
        "b.timer - failed",
    ],
    "a profile, kept in a folder and read by another producer": [
        [True, False],
        [["alone", "door"], ["door"], []],
        ["shop"],
        {"port": True, "group": True, "description": True, "password": True, "key_filename": True},
    ],
    "a profile's password on the disk": ["not in clear", True],
    "a profile, shown without its secrets": [
        ["description", "group", "hostname", "name", "port", "ssh_options", "username"],
        "mancer",
        False,
    ],
    "a profile, changed and deleted": [True, 2222, False, True, None],
    "a connection by a profile with another port and a key": "second at 2222\n",
    "the text of a remote file, of one that is not there, and by a profile that is not there": [
        "[shop]\nname = Zoë's\n",
        None,
        None,
    ],
    "two remote files, compared with themselves and with each other": [False, True, ["+ open = yes"]],
    "a synchronization task, kept, read by another manager, and deleted": [
        [True, False],
        ["worker", "db"],
        "/tmp/shop.ini",
        True,
        [],
    ],
    "a file here, copied by a synchronization": [True, "[new]\n", "[old]\n", [False], ["- [new]", "+ [old]"]],
    "a synchronization of a file that is not there": [["worker", False, True], ["db", False, True]],
    "a template, filled with what it has and with what it is given": [
        "db:5432 {{%other%}}\n",
        "db:1 {{%other%}}\n",
        ["shop"],
        None,
    ],
    "a template made from a remote file": ["[shop]\nname = {{%name%}}\n", "[shop]\nname = Ann's\n", "ini"],
    "configurations that validators pass and refuse": [
        [True, False, True, False, True, False],
        [False, "too long"],
        "yaml",
    ],
    "the list of a file's backups, and the newest, a named and the oldest one put back": [
        ["newest", "named", "oldest"],
        3,
        [[True, "newest\n"], [True, "named\n"], [True, "oldest\n"], [False, "oldest\n"]],
    ],
    "a file here and a file there, compared": [[True, []], False, ["- name = Ann's", "+ name = Zoë's"]],
    "a setting, kept and read again": [5, "none", ["9.1"]],
    "the history of commands that the logger keeps": [
        [["exit 0'", 0], ["exit 1'", 1], ["exit 7'", 7]],
        [["exit 0'", 0]],
        [["exit 0'", 0], ["exit 1'", 1], ["exit 7'", 7]],
    ],
    "a log file, by its level": [[["WARNING", "a warning"], ["ERROR", "an error"]], True],
    "output while a command runs": ["live\n", "words\n", 3],
}

#: Part of the message of each. Their listing in scenario.toml is held to these, name by name.
DEFECTS = {
    "apt-list-is-installed": "of an installed package, is_installed lists '', exit code 1",
    "apt-package-version": "the version of nginx-light is '} (pakiet: nginx-light)' instead of 1.",
    "apt-remote": "got an unexpected keyword argument 'host'",
    "custom-directory": "a custom command ran in the program's own folder, and wc said 'wc: b: No such file",
    "history-same-millisecond": "two commands that ended with 0 and 7 stand in the history with [0, None]",
    "identity-only": "with identity_only and a key that worker does not know, mancer is logged in",
    "inspector-logs-empty": "of a unit that has logged five lines, get_logs_for_unit has no entry",
    "output-changes-line-ends": "came as ['one\\ntwo\\n', 'one\\ntwo\\n']",
    "systemctl-sudo": "systemctl: unrecognized option '--sudo'",
    "wc-of-input": "of three lines in a pipe, wc has [{}]",
}


def scenario(lab: e2e.Lab) -> None:
    app, worker = lab.container("app"), lab.container("worker")
    prepare(lab, app, worker)
    with ThreadPoolExecutor() as pool:
        programs = [pool.submit(run, lab, app, name) for name in (*PROGRAMS[:-1], PROBES)]
        commands, services, records, logs, outcomes = (program.result() for program in programs)
        of_machine = of_commands(app)
    system = run(lab, app, PROGRAMS[-1])

    with lab.step("commands, chains and conversions"):
        compare(lab, commands, COMMANDS | of_machine)
    with lab.step("units, files, profiles and logs"):
        compare(lab, services, SERVICES | of_services(app, worker))
    with lab.step("results, versions, settings and logs"):
        compare(lab, records, expected.RECORDS | expected.of_records(app))
        compare(lab, logs, expected.LOGS)
    with lab.step("packages and units of app, a web service, and files over SSH"):
        compare(lab, system, expected.SYSTEM | expected.of_system(app))
    with lab.step("what is known to be wrong"):
        known_defects(lab, DEFECTS, outcomes)
    measure(lab, app, worker)


def defects(lab: e2e.Lab) -> None:
    """Tries the known defects alone."""
    app = lab.container("app")
    prepare(lab, app, lab.container("worker"))
    known_defects(lab, DEFECTS, run(lab, app, PROBES))


def measure(lab: e2e.Lab, app: e2e.Container, worker: e2e.Container) -> None:
    """Measures commands of several kinds on worker, and a chain on app whose rows are converted."""
    operations = Operations(lab, app, FOLDER)
    root = worker.sh("grep ^root: /etc/passwd").success().stdout_text
    answers = [[0, 3, 127], "worker\n", root]
    lab.measure_n("run_on_worker", 3, lambda: lab.check_equal(operations.perform("run_on_worker"), answers))
    names = [app.exec(["ls", "/etc/ssh"]).success().stdout_text.split()] * 3
    lab.measure_n("convert_listing", 3, lambda: lab.check_equal(operations.perform("convert_listing", "/etc/ssh"), names))


def prepare(lab: e2e.Lab, app: e2e.Container, worker: e2e.Container) -> None:
    for program in (*PROGRAMS, PROBES):
        app.put(lab.fixture(program), f"{FOLDER}/{program}")
    for module in ("facts.py", "probing.py"):
        app.put(Path(lab.fixture("")).parents[2] / "common" / module, f"{FOLDER}/{module}")
    for tool in ("netstat", "sshpass"):
        app.put(lab.fixture(tool), f"/usr/local/bin/{tool}", mode=0o755)
    app.exec(["chown", "mancer:", FOLDER]).success()
    app.exec(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{FOLDER}/key"], user="mancer").success()
    key = app.get(f"{FOLDER}/key.pub").decode().strip()
    worker.put(lab.fixture("prepare.sh"), "/root/prepare.sh")
    worker.exec(["sh", "/root/prepare.sh", key, PASSWORD]).success()
    worker.wait_for_port(2222)


def run(lab: e2e.Lab, app: e2e.Container, program: str) -> dict:
    """Runs a program that uses Mancer; returns what it wrote. Mancer prints every command and line, so its streams go to a file."""
    line = f"python3 $1 $1.json {FOLDER}/key {PASSWORD} > $1.log 2>&1 || {{ tail -n 5 $1.log | tail -c 2000 >&2; exit 1; }}"
    app.exec(["/bin/sh", "-c", line, "sh", f"{FOLDER}/{program}"], user="mancer", deadline=DEADLINE).success()
    written = app.get(f"{FOLDER}/{program}.json")
    lab.artifact(f"{program}.json", written)
    return json.loads(written)


def compare(lab: e2e.Lab, facts: dict, promised: dict) -> None:
    lab.check_equal(sorted(facts), sorted(promised), "the program sees what is listed here")
    for name, value in promised.items():
        lab.check_equal(facts[name], value, name)


def of_commands(app: e2e.Container) -> dict:
    """Returns expected facts that depend on app: from the kernel's table, a tool and the package."""
    rows = [line.split() for line in app.get("/proc/net/tcp").decode().splitlines()]
    listening = [row[1].split(":") for row in rows if row[3] == "0A"]
    addresses = [f"{socket.inet_ntoa(bytes.fromhex(host)[::-1])}:{int(port, 16)}" for host, port in listening]
    ls = re.search(r"\d+\.\d+", app.exec(["ls", "--version"]).success().stdout_text)[0]
    [mancer] = app.sh("sed -n 's/^Version: //p' /opt/mancer/mancer-*.dist-info/METADATA").success().stdout_text.split()
    packages = app.get("/var/lib/dpkg/status").decode().strip().split("\n\n")
    installed = [block for block in packages if re.search(r"^Status: .* installed$", block, re.MULTILINE)]
    return {
        "the full name and the address of app": ["app", app.address],
        "packages that apt lists": sorted({re.search(r"^Package: (.*)$", block, re.MULTILINE)[1] for block in installed}),
        "listening sockets as netstat has them": sorted(["tcp", address, "LISTEN"] for address in addresses),
        "versions of tools, and whether they are allowed": [ls, None, [True, False, False]],
        "the version of Mancer": f"mancer v{mancer}",
    }


def of_services(app: e2e.Container, worker: e2e.Container) -> dict:
    """Returns expected facts that depend on files of app and worker."""
    hashed = app.get("/etc/os-release"), worker.get("/tmp/shop.ini")
    return {"hashes of a file here and a file there": [hashlib.sha256(content).hexdigest() for content in hashed]}


if __name__ == "__main__":
    e2e.run(scenario, defects=defects)
