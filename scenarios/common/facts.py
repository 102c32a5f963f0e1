"""Named facts of programs that use Mancer on app, written to a file as JSON.

A fact is the result of a call of Mancer, or its effect. An exception becomes the value of its fact, and the other facts go on.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from mancer.application.shell_runner import ShellRunner
from mancer.domain.model.command_context import CommandContext
from mancer.infrastructure.logging.mancer_logger import MancerLogger

USER, REMOTE = "mancer", "worker"
FACTS = {}
#: Folder for files of this run, and settings of the SSH connection that most facts share.
folder = pathlib.Path(tempfile.mkdtemp())
#: Mancer keeps settings, backups and tasks in it too: each program has its own.
os.environ["HOME"] = str(folder)
os.chdir(folder)
shared = {"ControlMaster": "auto", "ControlPath": f"{folder}/%r@%h", "ControlPersist": "60", "ConnectTimeout": "10"}


def fact(name):
    """Registers a function as the fact of this name."""

    def register(function):
        FACTS[name] = function
        return function

    return register


def fact_of_both(name):
    """Registers a function for app, where it gets a local runner, and for worker, where it gets one over SSH."""

    def register(function):
        FACTS[f"{name} on app"] = lambda: function(local())
        FACTS[f"{name} on worker"] = lambda: function(remote())
        return function

    return register


def local(path="/", **settings):
    settings = {"enable_cache": False, "enable_command_logging": False} | settings
    return ShellRunner(context=CommandContext(current_directory=str(path)), **settings)


def remote(path="/", host=REMOTE, user=USER, ssh_options=shared, **connection):
    runner = local(path)
    runner.set_remote_execution(host=host, user=user, ssh_options=ssh_options, **connection)
    return runner


def bash(runner, line):
    return runner.execute(runner.create_bash_command(line))


def of_worker(line):
    """Returns the output of a command on worker that runs without Mancer; raises an error where there was no connection."""
    options = [word for name, value in shared.items() for word in ("-o", f"{name}={value}")]
    ended = subprocess.run(["ssh", *options, f"{USER}@{REMOTE}", line], capture_output=True, text=True, timeout=30)
    if ended.returncode == 255:
        raise RuntimeError(f"no SSH connection to {REMOTE}: {ended.stderr.strip()}")
    return ended.stdout.strip()


def see(function):
    try:
        return function()
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"


def main(at_once=4):
    # Without icecream, which loses its way when threads log at the same time (logger-threads).
    see(lambda: MancerLogger.get_instance().initialize(force_standard=True, log_level="critical"))
    of_worker("true")  # the connection that most of them share is there before they start side by side
    with ThreadPoolExecutor(at_once) as pool:
        seen = dict(zip(FACTS, pool.map(see, FACTS.values())))
    subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={folder}/%r@%h", f"{USER}@{REMOTE}"], capture_output=True)
    pathlib.Path(sys.argv[1]).write_text(json.dumps(seen, indent=1), encoding="utf-8")
