"""Probes of Mancer's known defects on app, and the outcome of each, written to a file as JSON.

A probe makes the call that a user would make first. It raises `Failure` where the call fails as its user would see it, or where its
effect is wrong. Otherwise it looks at the machine without Mancer, and returns the promised effect as it was seen there, or None.
The file has an object by the name of each defect: {"failure": text}, {"observed": text}, or {} where nothing shows the effect.
"""

import hashlib
import json
import os
import pathlib
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager

from facts import USER, folder, shared
from mancer.infrastructure.backend.bash_backend import BashBackend
from mancer.infrastructure.logging.mancer_logger import MancerLogger

#: Deadline of all probes together, in seconds; that of the program is longer.
DEADLINE_S = 45
#: Deadline of a look at a machine, in seconds.
LOOK_S = 20
#: Number of probes that run side by side.
AT_ONCE = 8
#: The start of a text that is kept.
LONGEST = 1000

ALONE, TOGETHER = {}, {}


class Failure(Exception):
    """A call that failed as its user would see it, or an effect that is wrong."""


def probe(name, alone=False):
    """Registers a function as the probe of this defect. One that changes the process itself runs alone, before the others."""

    def register(function):
        (ALONE if alone else TOGETHER)[name] = function
        return function

    return register


def expect(condition, failure):
    if not condition:
        raise Failure(failure)


def ask(host, line):
    """Returns what a line of shell writes on a machine, without Mancer."""
    return said(host, line).decode().strip()


def said(host, line):
    options = [word for name, value in (shared | {"BatchMode": "yes"}).items() for word in ("-o", f"{name}={value}")]
    argv = ["/bin/sh", "-c", line] if host == "app" else ["ssh", *options, f"{USER}@{host}", line]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=LOOK_S, cwd="/")
    if done.returncode != 0:
        raise RuntimeError(f"on {host}, without Mancer: `{line}`: status {done.returncode}: {done.stderr.decode().strip()}")
    return done.stdout


def has(host, path, expected):
    """Returns that a machine has a file with exactly these bytes."""
    found = said(host, f"cat '{path}'")
    expect(found == expected, f"{path} on {host} holds {found!r} instead of {expected!r}")
    return f"{host} has {path}: size {len(found)}, sha256 {hashlib.sha256(found).hexdigest()[:12]}"


def units(host, options=""):
    """Returns the names of the units that systemd on a machine lists."""
    return set(ask(host, f"systemctl list-units --all --plain --no-legend --no-pager {options} | cut -d ' ' -f 1").splitlines())


@contextmanager
def stdin_of(text):
    """Gives all that this process starts a text as its stdin; yields a function that returns the part that nobody has read."""
    kept = os.dup(0)
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        os.dup2(file.fileno(), 0)
        try:
            yield lambda: text.encode()[os.lseek(0, 0, os.SEEK_CUR) :].decode()
        finally:
            os.dup2(kept, 0)
            os.close(kept)


class Sleeper:
    """A command that takes its time, leaves a mark at its own end, and can be found among the processes until then."""

    def __init__(self, host, seconds):
        token = secrets.randbelow(1_000_000)
        self.host, self.seconds, self.mark = host, seconds, f"/tmp/slept-{token:06}"
        self.pattern = f"sleep {seconds}[.]0{token:06}"
        # With a shell around it, as most commands have.
        self.line = f"sh -c 'sleep {seconds}.0{token:06}; touch {self.mark}'; true"

    def at_its_end(self):
        return ask(self.host, f"test -e {self.mark} && echo yes || echo no") == "yes"

    def stopped(self):
        """Returns whether it is gone without having come to its end. Waits for one or the other."""
        deadline = time.monotonic() + self.seconds + LOOK_S
        while ask(self.host, f"pgrep --full --list-full '{self.pattern}' || true"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"`{self.line}` runs on and on")
            time.sleep(0.05)
        return not self.at_its_end()


def past_limit(seconds, limit, waited):
    """Runs a command of BashBackend past its time limit; `waited` makes the text for a call that waited for the command's own end."""
    sleeper, began = Sleeper("app", seconds), time.monotonic()
    code, _, message = BashBackend().execute(sleeper.line, timeout=limit)
    took = time.monotonic() - began
    expect(not sleeper.at_its_end(), waited(took, message))
    expect(code != 0, f"a command past its time limit of {limit} s ended with {code} after {took:.1f} s")
    expect(took >= limit, f"a command with a time limit of {limit} s was ended after {took:.2f} s")
    expect(sleeper.stopped(), f"the call came back after {took:.1f} s, and the command ran on to its own end")
    return f"the call came back after {took:.1f} s with {code}, and the command's processes were gone before their end"


def outcome(function):
    try:
        observed = function()
    except Failure as failure:
        return {"failure": short(failure)}
    except (Exception, SystemExit) as error:
        return {"failure": short(f"{type(error).__name__}: {error}")}
    return {"observed": short(observed)} if observed else {}


def short(text):
    return str(text)[:LONGEST].encode(errors="backslashreplace").decode()


def main(*hosts):
    """Runs all probes; `hosts` are the machines beside app. A probe that does not end is a failure, and does not keep the others."""
    for host in hosts:
        ask(host, "true")  # the shared connections are there before anybody needs them
    began, late = time.monotonic(), {"failure": f"it did not end within {DEADLINE_S} s"}
    outcomes = {name: late for name in (*ALONE, *TOGETHER)}

    def look(name, function):
        outcomes[name] = outcome(function)

    def wait_for(thread):
        thread.join(max(0, began + DEADLINE_S - time.monotonic()))

    for name, function in ALONE.items():
        thread = threading.Thread(target=look, args=(name, function), daemon=True)
        thread.start()
        wait_for(thread)
    # Without icecream, which loses its way when threads log at the same time (logger-threads).
    MancerLogger.get_instance().initialize(force_standard=True, log_level="critical")
    left = iter(TOGETHER.items())

    def look_at_rest(lock=threading.Lock()):
        while True:
            with lock:
                found = next(left, None)
            if found is None:
                return
            look(*found)

    threads = [threading.Thread(target=look_at_rest, daemon=True) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        wait_for(thread)
    pathlib.Path(sys.argv[1]).write_text(json.dumps(outcomes, indent=1), encoding="utf-8")
    for host in hosts:
        subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={folder}/%r@%h", f"{USER}@{host}"], capture_output=True)
