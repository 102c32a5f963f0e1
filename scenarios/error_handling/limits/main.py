"""Contract of Mancer's time limits, retries, cache and failures, compared with what app and worker saw.

`fixtures/limits.py` is written the way Mancer's users write Python. The expected values of its facts are listed here.
`fixtures/probes.py` tries the known defects. Tries are counted, and processes that outlive their limit are searched for, without Mancer.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import e2e

sys.path.append(str(Path(__file__).parents[2] / "common"))
from marks import known_defects  # noqa: E402 (it lies there)
from measured import Operations  # noqa: E402

FOLDER = "/srv/limits"
#: Deadline of each program, in seconds: they take about 3 s on two idle cores; the rest is headroom.
DEADLINE = 60

#: Times as long as the ssh that it starts that a command on worker may take, and number of calls that are timed.
OF_SSH_MOST, CALLS = 1.14, 40

#: Expected facts of limits.py.
PROMISES = {
    "a local command past its limit": [-1, "begun\n", "Command timed out after 2 seconds", "in time"],
    "a local command within its limit": [0, "done\n", ""],
    "a connection to a machine that says nothing, with a time limit": [255, "", True, "in time"],
    "a command with a time limit for its connection": [255, False, "in time", None, {"LogLevel": "ERROR"}],
    "what validators say: of an exit code, and of words": [[False, True], [True, False]],
    "answers of a runner with a cache, to the same words and to others": [1, 1, 2, 1],
    "answers of a runner without a cache": [1, 2],
    "answers after the cache was cleared": [1, 2],
    "answers to the same words in another folder": ["/\n", "/etc\n"],
    "what a cache keeps by a name of one's own": ["1", None],
    "live answers of a runner with a cache": [1, 2],
    "what a cache counts and exports": [[2, 1, 1, 2], [0, 1]],
    "a cache that is full": [["b", "c"], 2, ["c"]],
    "a port that nobody listens on": [255, "", "Connection refused"],
    "a machine that is not there": [255, "", "Could not resolve hostname nobody.invalid"],
    "a connection that is lost while the command runs": [255, True],
    "a folder that is not there, on app and on worker": [[-1, ""], [1, ""]],
}

#: Success, exit code, output and error of a command that is tried, and the number of tries that worker saw.
TRIES = {
    "success at once": [True, 0, "try 1\n", None, 1],
    "success at the second of four": [True, 0, "try 2\n", None, 2],
    "no success in three": [False, 9, "try 3\n", None, 3],
    "no retry": [False, 9, "try 1\n", None, 1],
    "a second between": [True, 0, "try 2\n", None, 2],
    "refused twice by a validator": [True, 0, "try 3\n", None, 3],
    "a validator that raises": [False, -1, "", "Command failed after 1 retries: out of order", 2],
    "an error that is handled": [True, 0, "handled", "out of order", 1],
    "a success that is handed on": [True, 0, "try 2, handed on", None, 2],
    "a lost connection": [True, 0, "done\n", None, 2],
}

#: Part of the message of each. Their listing in scenario.toml is held to these, name by name.
DEFECTS = {
    "cache-id-never-answers": "the same command by the same cache_id ran 2 times",
    "cache-keeps-failures": "asked again when it can succeed: tried 1 times, success is False",
    "cache-never-refreshes": "says 'old' a second after the file became new",
    "chain-hides-failure": "the second failed; first, second, third ran, and success is True",
}


def scenario(lab: e2e.Lab) -> None:
    app, worker = lab.container("app"), lab.container("worker")
    prepare(lab, app)
    with ThreadPoolExecutor() as pool:
        programs = [pool.submit(run, lab, app, name) for name in ("limits.py", "probes.py")]
        facts, outcomes = (program.result() for program in programs)
    known = {**PROMISES, **{f"tries: {name}": None for name in TRIES}}
    lab.check_equal(sorted(facts), sorted(known), "limits.py sees what is listed here")

    with lab.step("limits, failures and the cache"):
        for name, expected in PROMISES.items():
            lab.check_equal(facts[name], expected, name)
        left = app.sh("pgrep --full --exact 'sleep 12.25'").stdout_text
        lab.check_equal(left, "", "processes that outlive their time limit")
    with lab.step("tries, as worker saw them"):
        for name, expected in TRIES.items():
            tries = worker.get(f"/tmp/tries/{name}").decode().split()
            lab.check_equal([*facts[f"tries: {name}"], len(tries)], expected, f"tries: {name}")
        first, second = (int(time) / 1e9 for time in worker.get("/tmp/tries/a second between").split())
        lab.check(second - first >= 1, "the second between two tries", seconds=round(second - first, 2))
    with lab.step("what is known to be wrong"):
        known_defects(lab, DEFECTS, outcomes)
    measure(lab, app)


def defects(lab: e2e.Lab) -> None:
    """Tries the known defects alone."""
    app = lab.container("app")
    prepare(lab, app)
    known_defects(lab, DEFECTS, run(lab, app, "probes.py"))


def prepare(lab: e2e.Lab, app: e2e.Container) -> None:
    for program in ("limits.py", "probes.py"):
        app.put(lab.fixture(program), f"{FOLDER}/{program}")
    for module in ("facts.py", "probing.py"):
        app.put(Path(lab.fixture("")).parents[2] / "common" / module, f"{FOLDER}/{module}")
    app.exec(["chown", "mancer:", FOLDER]).success()


def run(lab: e2e.Lab, app: e2e.Container, program: str) -> dict:
    """Runs a program that uses Mancer; returns what it wrote. Mancer prints every command and line, so its streams go to a file."""
    line = "python3 $1 $1.json > $1.log 2>&1 || { tail -n 5 $1.log | tail -c 2000 >&2; exit 1; }"
    app.exec(["/bin/sh", "-c", line, "sh", f"{FOLDER}/{program}"], user="mancer", deadline=DEADLINE).success()
    written = app.get(f"{FOLDER}/{program}.json")
    lab.artifact(f"{program}.json", written)
    return json.loads(written)


def measure(lab: e2e.Lab, app: e2e.Container) -> None:
    """Measures tries of a command on worker, and commands on app that have a limit or are answered from a cache."""
    operations = Operations(lab, app, FOLDER)
    lab.measure_n("try_again", 3, lambda: lab.check_equal(operations.perform("try_again"), [[True, 3]] * 4))
    expected = [[f"{number}\n" for number in range(12)], [str(number) for number in range(24)], True]
    lab.measure_n("ask_twice", 3, lambda: lab.check_equal(operations.perform("ask_twice"), expected))
    # On a machine with eight times as many busy processes as processors, 40 such times were 1.01 to 1.07, and those of a Mancer that
    # takes 20 % longer 1.21 to 1.23.
    times = round(operations.perform("times_of_ssh", CALLS), 3)
    lab.check(times <= OF_SSH_MOST, "a command on worker takes hardly longer than the ssh in it", times=times)


if __name__ == "__main__":
    e2e.run(scenario, defects=defects)
