"""Mancer on app takes stock of app, db and worker; what it finds is compared with what the machines themselves say.

`fixtures/inventory.py` is written the way Mancer's users write Python, `observe.py` looks at the same machines without
Mancer, from the files and the kernel. `fixtures/promises.py` does what changes something. `fixtures/probes.py` tries what
Mancer's commands are known to do wrong. With `--chaos`, stock is taken again and again amid faults in the end: that may fail, and
where it does not, it is right.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import e2e
import observe

sys.path.append(str(Path(__file__).parents[2] / "common"))
from marks import known_defects  # noqa: E402 (it lies there)
from measured import Operations  # noqa: E402

FOLDER = "/srv/inventory"
#: Deadline of both programs, in seconds: they take about 3 s on two idle cores; the rest is headroom.
DEADLINE = 60
#: Deadline amid faults, in seconds, where an answer may never come.
ATTEMPT_DEADLINE = 8

#: What Mancer says of a machine and faults do not change.
STEADY = ("name", "system", "users", "packages", "ssh_files", "ssh_config")
#: What the templates promise, whatever the machines say now.
PORTS = {"app": {22, 80}, "db": {22, 5432, 6379}, "worker": {22}}
SERVICES = {
    "app": {"nginx.service", "ssh.service"},
    "db": {"postgresql@15-main.service", "redis-server.service", "ssh.service"},
    "worker": {"cron.service", "ssh.service"},
}
VOLUMES = {"app": set(), "db": {"/var/lib/postgresql"}, "worker": {"/srv/data"}}

#: What promises.py has to see.
PROMISES = {
    "exit codes of commands on app": [0, 3, 127],
    "exit codes of commands on db": [0, 3, 127],
    "the words of a command that fails on db": "cat: /no/such/file: No such file or directory\n",
    "a login as somebody whom db does not know": [255, ""],
    "a command past its time limit": [-1, True],
    "a command that succeeds when it is tried for the third time": [True, 3],
    "what a validator was shown": ["words\n"],
    "answers of a runner with a cache": ["one\n", "two\n"],
    "an upload and a download that say they are done": ["refused or whole", "refused or whole"],
    "a copy of a file": "to be copied\n",
    "a listing as a DataFrame": ["a", "b", "c"],
    "the files that find finds by their names": ["a", "b"],
    "a backup, and the newest of two put back": ["older\n", "newer\n", "newer\n"],
    "the hash of a file": "afd7023c8abff6c0d148fb6aeb8a9439f7712bd4c7aed6402e2be0d54d80de81",
    "units that are active": {"ssh.service": True, "slow.service": False},
    "cron on worker, stopped and started": ["inactive", "active"],
}

#: A piece of how each fails. Their listing in scenario.toml is held to these, name by name.
DEFECTS = {
    "apt-is-installed": "whether nginx-l, which does not exist, is installed: TRUE",
    "bash-command-forgets": "with sudo it said '\\n', by its alias '\\n'",
    "bash-environment": "COLOUR is '' in the command",
    "backend-timeout": "`sleep 2` with a time-out of 1 s came back when the command had ended by itself",
    "cache-evict": "storing 'c': KeyError: 'a'",
    "cache-keeps-failures": "the file is there and `cat` still fails",
    "cache-toggle": "no attribute 'set_max_size'; 'CommandCache' object has no attribute 'disable_auto_refresh'",
    "cat-last-line": "a file of one line has 2 rows",
    "dataframe-changes-values": "became {'id': 7.0, 'size': 5242880.0, 'share': 7.0}",
    "dataframe-strings": "hostname: 'str' object has no attribute 'items'; find: 'str' object has no attribute 'items'",
    "df-options": "it runs `df -h`",
    "echo-constructor": "echo said '\\n'",
    "find-in-path": "find: paths must precede expression: `/etc/ssh'",
    "grep-fields": "the file is 'root'",
    "grep-file-pattern": "it runs `grep app`",
    "head-bytes": "head: unrecognized option '--c=4'",
    "history-empty": "steps recorded: {'hostname': 0, 'ls': 0, 'echo': 0}",
    "hostname-set": "hostname: unrecognized option '--name=app'",
    "import-pkg-resources": "import of pkg_resources halted",
    "logging-flood": "with logging off, one command logs",
    "ls-cuts-names": "the file is 'two'",
    "pipe-empty": "of nothing, grep found 'words of the caller'",
    "ps-search": "it runs `ps -e grep systemd`",
    "ps-user": "it runs `ps --u=mancer`",
    "quoting": "echo said 'a\\nmancer\\n'",
    "ssh-backend-type": "without a host to go to, it ran on app",
    "systemctl-legend": "units: ['LOAD', 'ACTIVE', 'SUB', ",
    "version-warnings": "a version that is not allowed goes without a warning",
}


def scenario(lab: e2e.Lab) -> None:
    app = lab.container("app")
    prepare(lab, app)
    with ThreadPoolExecutor() as pool:
        before = list(pool.map(observe.machine, lab.containers))
        with lab.measure("take_inventory"):
            mancer(app, "inventory.py", f"{FOLDER}/inventory.json")
        after = list(pool.map(observe.machine, lab.containers))

    inventory = json.loads(kept(lab, app, "inventory.json"))
    lab.check_equal(list(inventory), [machine.name for machine in lab.containers], "every machine, and no other")
    for machine, first, last in zip(lab.containers, before, after):
        with lab.step(f"what Mancer says of {machine.name}"):
            compare(lab, machine, inventory[machine.name], first, last)
    with ThreadPoolExecutor() as pool, lab.step("what Mancer does when it is told to"):
        outcomes = pool.submit(tried, lab, app)
        mancer(app, "promises.py", f"{FOLDER}/promises.json")
        facts = json.loads(kept(lab, app, "promises.json"))
        lab.check_equal(sorted(facts), sorted(PROMISES), "promises.py sees what is listed here")
        for promise, expected in PROMISES.items():
            lab.check_equal(facts[promise], expected, promise)
    with lab.step("what its commands are known to do wrong"):
        known_defects(lab, DEFECTS, outcomes.result())

    known = {machine.name: first for machine, first in zip(lab.containers, before)}
    operations = Operations(lab, app, FOLDER)
    lab.measure_n("ask_names", 3, lambda: lab.check_equal(operations.perform("ask_names"), ["db", "worker"]))
    of_app = {what: known["app"][what] for what in ("users", "ssh_files", "ssh_config")}
    lab.measure_n("list_files", 3, lambda: lab.check_equal(operations.perform("list_here"), of_app))
    with lab.step("tolerate faults"):
        tolerate_faults(lab, app, known)


def defects(lab: e2e.Lab) -> None:
    """Tries the known defects alone."""
    app = lab.container("app")
    prepare(lab, app)
    known_defects(lab, DEFECTS, tried(lab, app))


def prepare(lab: e2e.Lab, app: e2e.Container) -> None:
    for program in ("inventory.py", "promises.py", "probes.py"):
        app.put(lab.fixture(program), f"{FOLDER}/{program}")
    for module in ("facts.py", "probing.py"):
        app.put(Path(lab.fixture("")).parents[2] / "common" / module, f"{FOLDER}/{module}")
    app.exec(["chown", "mancer:", FOLDER]).success()


def tolerate_faults(lab: e2e.Lab, app: e2e.Container, known: dict) -> None:
    """Takes stock again and again while `--chaos` plays faults."""
    db = lab.container("db")
    with lab.chaos() as chaos:
        chaos.always("db has the users that it had", lambda: observe.users(db) == known["db"]["users"])
        while chaos.lasts():
            app.wait_for_port(22)
            with lab.invoke("inventory", "take") as taking:
                try:
                    mancer(app, "inventory.py", f"{FOLDER}/amid-faults.json", deadline=ATTEMPT_DEADLINE)
                    found = json.loads(app.get(f"{FOLDER}/amid-faults.json"))
                except e2e.Error as error:
                    taking.unknown(str(error))
                    continue
                for name, machine in known.items():
                    wrong = {what: difference(found[name][what], machine[what]) for what in STEADY}
                    wrong = {what: each for what, each in wrong.items() if each is not None}
                    lab.check(not wrong, f"what was taken stock of on {name} amid faults", wrong=wrong)
                taking.ok()


def mancer(app: e2e.Container, program: str, *arguments: str, deadline: float = DEADLINE) -> None:
    """Runs a program that uses Mancer. Mancer prints every command and line, so its streams go to a file."""
    log = f"{FOLDER}/{program}.{arguments[0].rpartition('/')[2]}.log"
    line = f'python3 {FOLDER}/{program} "$@" > {log} 2>&1 || {{ tail -n 5 {log} | tail -c 2000 >&2; exit 1; }}'
    app.exec(["/bin/sh", "-c", line, "sh", *arguments], user="mancer", deadline=deadline).success()


def kept(lab: e2e.Lab, app: e2e.Container, name: str) -> str:
    content = app.get(f"{FOLDER}/{name}")
    lab.artifact(name, content)
    return content.decode()


def compare(lab, machine, found, before, after):
    """What stays as it is must be equal; of what comes and goes, Mancer must have what was there before and after."""
    name = machine.name
    for what in STEADY:
        lab.check(found[what] == before[what], f"{what} of {name}", difference=difference(found[what], before[what]))
    for what, promised in (("ports", PORTS), ("services", SERVICES)):
        missing = (before[what] & after[what] | promised[name]) - set(found[what])
        invented = set(found[what]) - (before[what] | after[what])
        lab.check(not missing and not invented, f"{what} of {name}", missing=missing, invented=invented)
    stayed = {command for pid, command in before["processes"].items() if after["processes"].get(pid) == command}
    missing = stayed - set(found["processes"])
    lab.check(not missing, f"processes of {name} that lived all the time", missing=missing)

    missing = ({"/", "/run"} | VOLUMES[name]) - found["disks"].keys()
    lab.check(not missing, f"disks of {name}", missing=missing)
    sizes = observe.disks(machine, found["disks"])
    wrong = difference(found["disks"], sizes)
    lab.check(found["disks"] == sizes, f"sizes of the disks of {name}, in bytes", difference=wrong)
    lab.check_equal(found["mounts"], sorted(found["disks"]), f"Mancer's df lists the disks of {name}")
    stamp = machine.get("/tmp/inventory.stamp").decode()
    lab.check_equal(stamp, f"stock taken by mancer; {name} & all\n", "the note that Mancer left there, word for word")


def difference(found, expected):
    """Returns the differing parts of two values, short where these are long."""
    if found == expected:
        return None
    if isinstance(found, dict) and isinstance(expected, dict):
        names = [name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)]
        return {name: (found.get(name), expected.get(name)) for name in sorted(names)}
    return (found, expected)


def tried(lab, app):
    """Returns the outcomes of the probes of known defects."""
    mancer(app, "probes.py", f"{FOLDER}/probes.json")
    return json.loads(kept(lab, app, "probes.json"))


if __name__ == "__main__":
    e2e.run(scenario, defects=defects)
