"""What the author of a scenario in Python uses. A scenario reads like a story::

    import e2e


    def scenario(lab: e2e.Lab) -> None:
        app, db = lab.container("app"), lab.container("db")
        db.wait_for_port(5432)
        app.wait_for_http("/status", deadline=10)

        with lab.step("load"):
            db.put(lab.fixture("rows.csv"), "/tmp/rows.csv")
            db.sh("psql -f /tmp/load.sql", user="postgres").success()
        with lab.measure("data_setup"):
            counted = db.exec(["psql", "-Atc", "select count(*) from rows"], user="postgres").success()
        lab.measure_n("query", 30, lambda: app.exec(["query-all"]).success())

        rows = int(counted.stdout_text)
        lab.check_equal(rows, lab.param("rows", int), "every row of the fixture was loaded")
        lab.check(rows % 2 == 0, "rows come in pairs", rows=rows)
        with db.inject("net.delay", delay_ms=50):
            lab.eventually("the status page answers", 10, lambda: app.exec(["query-all"]).status == 0)
        lab.artifact("rows.csv", db.get("/tmp/rows.csv"))

        with lab.chaos() as chaos:  # with --chaos the engine breaks meanwhile what [chaos] in scenario.toml allows
            chaos.always("no row is there twice", lambda: doubled(db) == 0)
            accepted = 0
            while accepted < 1000 or chaos.lasts():
                with lab.invoke("client", "submit", accepted) as submitting:  # left by an exception, its end is unknown
                    submitting.ok(submit(app))
                accepted += 1
        lab.sometimes("a row was sent again", again(app) > 0)
        lab.at_end("no accepted row is missing", lambda: missing(db) == 0)


    if __name__ == "__main__":
        e2e.run(scenario)

Its folder has a ``scenario.toml`` with ``command = ["python3", "main.py"]``. The engine writes this file, as it was
built with it, into each run's folder and puts that into ``PYTHONPATH``; editors find it in ``xtask/sdk/python``.

One process has one connection to the engine, found through ``E2E_SOCKET``. Everything here may be used from several
threads at once: their requests overlap. Every request has a deadline that the engine keeps; when the engine goes away,
the process ends. Times are in seconds. This is one file for Python 3.9 and later and needs no package.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import faulthandler
import functools
import inspect
import itertools
import json
import os
import queue
import shlex
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from concurrent.futures import wait as wait_for_all
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Callable, NoReturn, Union

__all__ = [
    "Chaos",
    "CheckFailed",
    "Container",
    "DefectMark",
    "Error",
    "ExecFailed",
    "Fault",
    "Finished",
    "Invocation",
    "Lab",
    "Likeness",
    "Picture",
    "RequestError",
    "run",
    "scaled",
]

# The contract's constants; xtask/contract/reference.json has them too, and a test compares.
SOCKET_VARIABLE = "E2E_SOCKET"
PATIENCE_VARIABLE = "E2E_PATIENCE"
PROTOCOL_VERSION = 1
LINE_BYTES_MAX = 64 << 20
STREAM_BYTES_MAX = 16 << 20
CODE_INFRASTRUCTURE = -32000
CODE_DEADLINE = -32001
CODE_INTERRUPTED = -32002
CODE_UNAVAILABLE = -32003

#: Default deadline, in seconds: long enough for a program that does not wait, a large file, a service that starts.
DEADLINE = 60.0
_SCREENSHOT_DEADLINE = 30.0
#: Pause between two looks of `Lab.eventually`, in seconds.
_PAUSE = 0.02
#: Pause between two looks of `Chaos.always`, in seconds.
_WATCH_PAUSE = 0.1
#: Seconds for which a dying process waits at most for the engine to note the reason, and to take pictures.
_ABORT_PATIENCE = 65.0

#: How long a scenario's end waits for threads that it has left, in seconds.
_THREADS_GRACE = 2.0
_VALUE_CHARACTERS_MAX = 2000

#: Maximum length of a text of a check, of a log's line, or of a failure: a longer one is cut.
_TEXT_CHARACTERS_MAX = 1 << 20
_TAIL_BYTES = 2000
_GIVEN_UP = "the scenario reported no end"

Bytes = Union[bytes, bytearray, memoryview, str]


class Error(Exception):
    """What a scenario may expect to go wrong. Raised by a scenario itself, it is reported as its error."""


class RequestError(Error):
    """A request that the engine could not fulfil, or that never reached it.

    A program that ends with another status than 0 is none: see `Finished.success`.
    """

    def __init__(self, method: str, message: str, container: str | None = None, code: int | None = None) -> None:
        super().__init__(f"{method} in {container}: {message}" if container else f"{method}: {message}")
        #: The contract's name of the method, such as `wait`.
        self.method = method
        #: The container it was about, if it was about one.
        self.container = container
        #: The contract's number of the error; None where the engine gave no answer.
        self.code = code
        self.message = message

    @property
    def is_deadline(self) -> bool:
        """Whether a deadline passed, or a wait could not come true any more."""
        return self.code == CODE_DEADLINE

    @property
    def is_unavailable(self) -> bool:
        """Whether a fault has taken the container down or frozen it."""
        return self.code == CODE_UNAVAILABLE


class CheckFailed(Error):
    """A check that did not hold. The engine has recorded it already."""


class ExecFailed(Error):
    """A program that was expected to succeed and did not."""

    def __init__(self, finished: Finished) -> None:
        #: How it ended.
        self.finished = finished
        how = f"ended with status {finished.status}"
        if finished.timed_out:
            how = f"did not end within {finished.deadline:g} s and was killed"
        command = f"`{shlex.join(finished.argv)}`"
        said = {"stdout": _tail(finished.stdout), "stderr": _tail(finished.stderr)}
        # Its own last words come first: they say more than the command line.
        words = (said["stderr"] or said["stdout"]).rpartition("\n")[2].strip()
        text = f"exec in {finished.container} {how}"
        text += f": {words}\n  command: {command}" if words else f" and said nothing: {command}"
        for name, tail in said.items():
            if tail:
                text += f"\n  {name}: " + tail.replace("\n", "\n          ")
        super().__init__(text)


@dataclass(frozen=True)
class Finished:
    """Result of a program in a container."""

    #: Exit status, or 128 + the signal's number, as a shell gives it.
    status: int
    stdout: bytes
    stderr: bytes
    #: Time from the program's start to its end, in seconds.
    duration: float
    #: True if the deadline passed and the program was killed.
    timed_out: bool
    container: str
    argv: list[str]
    deadline: float

    @property
    def stdout_text(self) -> str:
        """stdout as text, not stripped. Bytes that are no UTF-8 are an error."""
        return self._text("stdout", self.stdout)

    @property
    def stderr_text(self) -> str:
        """stderr as text, not stripped. Bytes that are no UTF-8 are an error."""
        return self._text("stderr", self.stderr)

    def __bool__(self) -> bool:
        """True if the program ended in time and with status 0: `lab.check(machine.exec(...))` checks that."""
        return self.status == 0 and not self.timed_out

    def success(self) -> Finished:
        """Returns itself if the program ended in time and with status 0; raises `ExecFailed` otherwise."""
        if self.status != 0 or self.timed_out:
            raise ExecFailed(self)
        return self

    def _text(self, name: str, stream: bytes) -> str:
        try:
            return stream.decode()
        except UnicodeDecodeError as error:
            raise Error(f"{name} of `{shlex.join(self.argv)}` in {self.container} is not text: {error}") from None


@dataclass(frozen=True)
class Picture:
    """Result of `Lab.screenshot`."""

    #: The PNG; None where this host has no browser.
    path: Path | None
    size_bytes: int
    #: Reason why there is no picture, and how to get one; None where there is one.
    reason: str | None


@dataclass(frozen=True)
class Likeness:
    """Result of `Lab.screenshot_like`."""

    #: The new PNG; None where this host has no browser.
    path: Path | None
    #: A PNG with the differing pixels in red; None where none differs.
    difference: Path | None
    pixels_off: int
    #: Reason why nothing was compared, and how to mend that; None where something was.
    reason: str | None


class Fault:
    """Injected fault, whose effect the engine has verified. As a context manager it is healed at the end."""

    def __init__(self, connection: _Connection, number: int, evidence: str) -> None:
        self._connection = connection
        self._number = number
        #: Observed effect, for people.
        self.evidence = evidence

    def heal(self) -> str:
        """Heals the fault and waits until its effect is verified to be gone; returns what was observed.

        Healing twice is fine. A container that is started again can run programs by then; wait for its services.
        """
        return str(self._connection.call("fault.heal", {"fault": self._number})["evidence"])

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        try:
            self.heal()
        except RequestError:
            # The engine records what it cannot heal; what the body raised says more.
            if error is None:
                raise


class Chaos:
    """The stretch in which faults are played: see `Lab.chaos`."""

    def __init__(self, lab: Lab, length: float | None) -> None:
        self._lab = lab
        #: Whether faults are played in this run.
        self.is_playing = length is not None
        self._ends = time.monotonic() + (length or 0.0)
        self._over = threading.Event()
        self._watches: list[Future[None]] = []

    def lasts(self) -> bool:
        """Whether faults are still to come, for a load that has to meet all of them. False in a run without faults."""
        return self.is_playing and time.monotonic() < self._ends

    def always(self, name: str, holds: Callable[[], object]) -> None:
        """Evaluates a condition ten times a second, until all faults are healed and the system is quiet.

        The case fails when `holds` returns false once, or only raises: an exception means that the condition could not
        be evaluated, because the system did not answer.
        """
        place = _Place.of_caller()
        watch: Future[None] = Future()
        self._watches.append(watch)

        def run() -> None:
            try:
                self._watch(name, holds, place)
            except BaseException as error:
                watch.set_exception(error)
            else:
                watch.set_result(None)

        threading.Thread(target=run, name=f"always: {name}", daemon=True).start()

    def _watch(self, name: str, holds: Callable[[], object], place: _Place) -> None:
        held, missed, broken, last_error = 0, 0, False, ""
        while True:
            last = self._over.is_set()
            try:
                if holds():
                    held += 1
                else:
                    broken = True
            except Exception as error:
                missed, last_error = missed + 1, _chain(error)
            if last or broken:  # once more when it is over
                break
            self._over.wait(_WATCH_PAUSE)
        values = "" if held or broken else f"it could never be evaluated: {last_error}"
        looks = held + missed + broken
        self._lab._invariant("always", name, held > 0 and not broken, place, looks=looks, missed=missed, values=values)

    def _end(self) -> list[BaseException]:
        """Ends all watches; returns the failures that they found."""
        self._over.set()
        wait_for_all(self._watches)
        return [error for error in (watch.exception() for watch in self._watches) if error is not None]


class DefectMark:
    """The mark of a known defect, in the body that tries it: see `Lab.known_defect`."""

    def __init__(self) -> None:
        self._effects: list[str] = []

    def observed(self, effect: object) -> None:
        """States an effect that the product promises and the body has seen on a machine, with its values.

        Such as a file that is there, the time that a limit took, a process that is gone. What the product says about
        itself is no effect. Without one, no defect counts as fixed.
        """
        effect = str(effect).strip()
        if effect:
            self._effects.append(effect)


class Invocation:
    """An operation on the system under test that has begun: see `Lab.invoke`. If it is dropped, its end is unknown."""

    def __init__(self, lab: Lab, process: str, operation: str) -> None:
        self._lab = lab
        self._names = (process, operation)
        self._ended = False

    def ok(self, result: Any = None) -> None:
        """Records that the operation took place, with its result."""
        self._end("ok", result)

    def fail(self, error: Any = None) -> None:
        """Records that the operation did not take place, and never will: the system has said so."""
        self._end("fail", error)

    def unknown(self, error: Any = None) -> None:
        """Records an unknown result: no answer came in time. The operation may still take place."""
        self._end("unknown", error)

    def __enter__(self) -> Invocation:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if self._ended:
            return
        try:
            self.unknown(_GIVEN_UP if error is None else _chain(error).encode(errors="replace").decode())
        except RequestError:
            # What the body raised says more; the engine ends it as unknown by itself.
            if error is None:
                raise

    def __del__(self) -> None:
        # In whatever thread and between whatever two steps this is, nothing can be asked: the next `invoke` tells it.
        if not self._ended:
            self._lab._dropped.put(self._names)

    def _end(self, phase: str, value: Any) -> None:
        if self._ended:
            process, operation = self._names
            raise Error(f"{operation} of {process} has ended already")
        self._ended = True
        self._lab._history(*self._names, phase, value)


class Container:
    """A container of the lab. Any thread may use it."""

    def __init__(self, connection: _Connection, info: Mapping[str, Any]) -> None:
        self._connection = connection
        #: Its name in the lab, such as `db`; the other containers resolve it.
        self.name: str = info["name"]
        #: Its name on the host, such as `mancer-e2e-db`.
        self.host_name: str = info["host_name"]
        #: Its address in the lab's network.
        self.address: str = info["address"]
        #: The template it was made from.
        self.template: str = info["template"]

    def exec(
        self,
        argv: Sequence[str],
        *,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: Bytes | None = None,
        deadline: float = DEADLINE,
    ) -> Finished:
        """Runs a program, no shell in between, and waits for its end. For its status see `Finished.success`.

        It runs as root unless `user` names another, with `env` added to its environment, and reads `stdin`, of any
        size. Past the deadline, which the engine multiplies by its patience on a slow machine, it is killed in the container with
        all its children.
        """
        if isinstance(argv, str):
            raise TypeError(f"{argv!r} is no list of words: a line of shell is for sh()")
        request: dict[str, Any] = {"argv": list(argv), "deadline_ms": _milliseconds(deadline)}
        if env:
            request["environment"] = [[name, value] for name, value in env.items()]
        if user is not None:
            request["user"] = user
        with contextlib.ExitStack() as files:
            if stdin is not None:
                request["stdin"] = files.enter_context(_outgoing(stdin))
            result = self._ask("exec", request)
        return Finished(
            status=result["status"],
            stdout=_incoming(result["stdout"]),
            stderr=_incoming(result["stderr"]),
            duration=result["duration_ms"] / 1e3,
            timed_out=result["timed_out"],
            container=self.name,
            argv=request["argv"],
            deadline=scaled(deadline),
        )

    def sh(self, line: str, **options: Any) -> Finished:
        """Runs a line of POSIX shell, `/bin/sh -c LINE`, with the options of `exec`."""
        return self.exec(["/bin/sh", "-c", line], **options)

    def put(self, host_path: str | Path, path: str, *, mode: int = 0o644, owner: str | None = None) -> None:
        """Copies a file of the host to an absolute path in the container; `owner` is `user` or `user:group`."""
        host_path = Path(host_path).absolute()
        if not host_path.is_file():
            raise Error(f"{host_path} is not a file")
        content = {"file": {"path": str(host_path), "bytes": host_path.stat().st_size}}
        self._put(path, content, mode, owner)

    def write(self, path: str, content: Bytes, *, mode: int = 0o644, owner: str | None = None) -> None:
        """Writes a file in the container. Readers see the old one or the new one, never a part."""
        with _outgoing(content) as stream:
            self._put(path, stream, mode, owner)

    def get(self, path: str) -> bytes:
        """Reads a file of the container, of any size. A missing one is an error."""
        return _incoming(self._ask("get", {"path": path, "deadline_ms": _milliseconds(DEADLINE)}))

    def wait_for_port(self, port: int, deadline: float = DEADLINE) -> float:
        """Waits until something accepts TCP connections at this port; returns how long that took.

        Like every wait it raises a `RequestError` with the last observation when the deadline has passed, and at once
        with the reason when the container has died, or when this cannot come true any more.
        """
        return self._wait({"tcp": port}, deadline)

    def wait_for_http(self, path: str, deadline: float = DEADLINE) -> float:
        """Waits until a GET of `/path` or `:8080/path` gives a status of 200 to 399."""
        return self._wait({"http": path}, deadline)

    def wait_for_unit(self, unit: str, deadline: float = DEADLINE) -> float:
        """Waits until this systemd unit is active; at once over where it is not there, masked or failed for good."""
        return self._wait({"unit": unit}, deadline)

    def wait_for_file(self, path: str, deadline: float = DEADLINE) -> float:
        """Waits until this path exists."""
        return self._wait({"file": path}, deadline)

    def wait_for_command(self, argv: Sequence[str], deadline: float = DEADLINE) -> float:
        """Waits until this program, without a shell in between, ends with status 0."""
        return self._wait({"exec": list(argv)}, deadline)

    def inject(self, fault: str, **parameters: Any) -> Fault:
        """Injects a fault into this container, or its network: `with db.inject("net.delay", delay_ms=50): ...`.

        The fault has taken effect when this returns. The names and parameters are those of `Fault` in
        xtask/contract/reference.json.
        """
        injected = self._ask("fault.inject", {"fault": {"name": fault, **parameters}})
        return Fault(self._connection, injected["fault"], injected["evidence"])

    def _put(self, path: str, content: Mapping[str, Any], mode: int, owner: str | None) -> None:
        request = {"path": path, "content": content, "mode": mode, "deadline_ms": _milliseconds(DEADLINE)}
        if owner is not None:
            request["owner"] = owner
        self._ask("put", request)

    def _wait(self, condition: Mapping[str, Any], deadline: float) -> float:
        waited = self._ask("wait", {"condition": condition, "deadline_ms": _milliseconds(deadline)})
        return float(waited["duration_ms"]) / 1e3

    def _ask(self, method: str, params: Mapping[str, Any]) -> Any:
        return self._connection.call(method, {"container": self.name, **params}, container=self.name)


class Lab:
    """The lab of this case, made fresh for it. Any thread may use it."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._welcome = connection.call("hello", {"protocol": PROTOCOL_VERSION})
        connection.shown = functools.lru_cache(maxsize=None)(self._shown)
        _offer_stacks(self._welcome.get("stack_file"))
        self._marks = threading.local()
        #: Operations whose end is unknown and was not told yet, and who tells it.
        self._dropped: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._telling_dropped = threading.Lock()
        #: `category/name` of this scenario.
        self.scenario: str = self._welcome["scenario"]
        #: The case's name in scenario.toml; `default` where it lists none.
        self.case: str = self._welcome["case"]
        #: The folder whose files are kept with the run's record; this process may write there.
        self.artifacts = Path(self._welcome["artifacts"])
        #: All containers, in the order of scenario.toml.
        self.containers: list[Container] = [Container(connection, info) for info in self._welcome["containers"]]

    def container(self, name: str) -> Container:
        """A container by its name in scenario.toml."""
        for container in self.containers:
            if container.name == name:
                return container
        known = ", ".join(container.name for container in self.containers)
        raise Error(
            f"{self.scenario} has no container {name} (it has: {known}): write `[containers.{name}]` in scenario.toml"
        )

    def param(self, name: str, kind: type | None = None) -> Any:
        """A parameter of the case in scenario.toml, which must be of this type: `lab.param("rows", int)`."""
        params: dict[str, Any] = self._welcome["params"]
        if name not in params:
            known = ", ".join(params) or "none"
            raise Error(
                f"case {self.case} of {self.scenario} has no parameter {name} (it has: {known}): write `{name} = ...` "
                "below its name in scenario.toml"
            )
        value = params[name]
        if kind is not None and type(value) is not kind:
            raise Error(
                f"parameter {name} of case {self.case} of {self.scenario} is {value!r} in scenario.toml, "
                f"no {kind.__name__}"
            )
        return value

    def secret(self, name: str) -> str:
        """A secret that the run was given, by `[secrets]` in e2e.toml or `--secret NAME`. It is masked in all that is written."""
        value = os.environ.get(name)
        if not value:
            raise Error(
                f"the secret {name} was not given to this run: set the environment variable {name}, and declare it in "
                f'e2e.toml ([secrets] variables = ["{name}"]) or name it by --secret {name}'
            )
        return value

    def fixture(self, name: str) -> Path:
        """The path of a file in the scenario's `fixtures/` folder."""
        return Path(self._welcome["fixtures"]) / name

    def artifact(self, name: str, content: Bytes) -> None:
        """Keeps bytes with the run's record, as a file of this name; no folders."""
        with _outgoing(content) as stream:
            self._connection.call("artifact", {"name": name, "content": stream})

    def log(self, message: str, level: str = "info") -> None:
        """Writes a line to the run's log; the level is `debug`, `info`, `warning` or `error`."""
        self._connection.call("log", {"level": level, "message": _clean(message)})

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A named stretch of the case, `with lab.step("load"): ...`; the record has when it began and how it ended."""
        self._connection.call("step", {"name": name, "edge": "begin"})

        def end(succeeded: bool) -> None:
            self._connection.call("step", {"name": name, "edge": "passed" if succeeded else "failed"})

        with _told(end):
            yield

    @contextlib.contextmanager
    def measure(self, operation: str) -> Iterator[None]:
        """Measures one operation that runs once; its name is unique in the scenario and in snake_case."""
        with self._measured(operation, 1):
            yield

    def measure_n(self, operation: str, repetitions: int, body: Callable[[], Any]) -> None:
        """Measures an operation this many times; more or less often where the run compares it and needs so many samples.

        `body` must be repeatable on the same state: verdicts compare its samples with each other. The first error ends
        it, and that repetition counts as failed.
        """
        if repetitions < 1:
            raise Error(f"operation {operation} is to be measured {repetitions} times")
        more = True
        while more:
            with self._measured(operation, repetitions) as answer:
                body()
            more = answer["more"]

    def metric(self, name: str, value: float, unit: str, better: str) -> None:
        """Records a value that the scenario has found out itself, such as a throughput.

        Its name is unique in the scenario and in snake_case; `unit` is such as `records/s`, `better` is `lower` or
        `higher`. Several values of one name are its samples.
        """
        self._connection.call("metric", {"name": name, "value": value, "unit": unit, "better": better})

    def check(self, condition: object, message: str | None = None, /, **values: object) -> None:
        """Records whether a condition holds, and raises `CheckFailed` when it does not.

        `lab.check(rows < most, "no row came twice", rows=rows, most=most)`: the message says what it means; the values
        are what a person needs to see why it failed.
        """
        place = _Place.of_caller()
        self._check(bool(condition), place.argument(0) or message or "a check", values, message, place)

    def check_equal(self, left: object, right: object, message: str | None = None) -> None:
        """Like `check(left == right, message)`, and shows both values."""
        place = _Place.of_caller()
        sides = [place.argument(0) or "left", place.argument(1) or "right"]
        values = {text: value for text, value in zip(sides, (left, right)) if not _is_literal(text)}
        self._check(left == right, " == ".join(sides), values, message, place)

    def eventually(self, name: str, deadline: float, holds: Callable[[], object]) -> float:
        """Calls `holds` repeatedly until it returns true, and records that as a check; returns how long it took.

        `name` says what has to come true, such as "the alert is raised". What `holds` raises ends it at once. On a slow
        machine the deadline is longer: it is multiplied by the engine's patience.
        """
        place = _Place.of_caller()
        started = time.monotonic()
        deadline = scaled(deadline)
        while True:
            passed = bool(holds())
            took = time.monotonic() - started
            if passed or took >= deadline:
                break
            time.sleep(_PAUSE)  # between two looks at something that gives no sign of its own
        values = f"within {deadline:g} s: {'took' if passed else 'not after'} {took:.3f} s"
        self._record(passed, name, values, None, place)
        return took

    @contextlib.contextmanager
    def known_defect(self, name: str, failing_with: str) -> Iterator[DefectMark]:
        """A body that a known defect of the product makes fail. The mark has three ends::

            with lab.known_defect("product-1.0/upload", failing_with="Host key verification failed") as mark:
                app.exec(["python3", "/srv/upload.py", "/tmp/sent"]).success()
                mark.observed(f"worker has the file: {len(worker.get('/tmp/sent'))} bytes")

        - The body fails, and the failure's text, with its causes, contains `failing_with`: the run reports a known
          defect.
        - It does not fail, and has stated by `observed` what it saw of the promised effect on a machine: the case fails
          with "fixed: remove its mark".
        - It fails otherwise, or does not fail and has observed nothing: the case fails with "no longer fails as known:
          repaired, or broken otherwise?".

        The scenario goes on after each of them, and a case that failed here fails at its end. A body that could not be
        tried, because the host has failed or the session is over, raises its error.

        The name is listed under `defects` in scenario.toml, and the case has to get to this call. A check in the body
        that does not hold is excused if it is the expected failure, in the thread that runs the body; any other
        fails the case.
        """
        place = _Place.of_caller(skip=1)  # the frame of contextlib lies between
        failure: Exception | None = None
        mark = DefectMark()
        self._held().append([])
        try:
            yield mark
        except Exception as error:
            failure = error
        finally:
            # A check is the expected failure where the text stands in what was raised, or in what that names as its cause.
            direct = list(_direct_causes(failure))
            expected = direct if any(failing_with in _text(cause) for cause in direct) else []
            for check, failed in self._held().pop():
                if failed not in expected:
                    self._tell_failed(check, failed)
        told: dict[str, Any] = {"defect": name, "failing_with": failing_with, "outcome": "different"}
        if mark._effects:
            told["observed"] = _clean("; ".join(mark._effects))
        if failure is not None:
            told["failure"] = _clean(_chain(failure))
            if failing_with in told["failure"]:
                told["outcome"] = "known"
        elif mark._effects:
            told["outcome"] = "fixed"
        self._connection.call("defect", {**told, "file": self._shown(place.file), "line": place.line})
        if told["outcome"] == "different" and failure is not None and _is_of_the_engine(failure):
            raise Error(f"{name} could not be tried") from failure

    @contextlib.contextmanager
    def chaos(self) -> Iterator[Chaos]:
        """The stretch in which the engine plays the faults of `cargo xtask e2e --chaos`, `with lab.chaos() as chaos: ...`

        They are those that `[chaos]` in scenario.toml allows. After the body all faults are healed, and the block ends
        when the probes of all containers pass again and a quiet period is over: from then on the system has to do what
        its users expect, and the case's last checks follow, those of `at_end` too. In a run without `--chaos` the body
        runs and nothing else happens. Once in a case.

        Requests of the body to the system may fail while it is broken: an answer that does not come is neither a
        success nor a failure. `invoke` keeps a history with such unknown ends. Raised after the body: a `RequestError`
        when the system does not recover in time, `CheckFailed` for a condition of `Chaos.always` that did not hold or
        could never be evaluated.
        """
        playing = self._connection.call("chaos.begin", {})
        chaos = Chaos(self, playing["length_ms"] / 1e3 if playing["playing"] else None)
        try:
            yield chaos
            self._connection.call("settle", {})
        finally:
            found = chaos._end()
        for error in found:
            raise error

    def sometimes(self, name: str, came_true: object) -> None:
        """Reports whether a condition came true that has to come true at least once in a run with faults.

        Its name, such as "a job was done again", is listed under `sometimes` in `[chaos]` of scenario.toml, so that it
        also counts as missed in a case that never gets to this call.
        """
        self._invariant("sometimes", name, bool(came_true), _Place.of_caller())

    def at_end(self, name: str, holds: Callable[[], object]) -> None:
        """Checks a condition that has to hold once all faults are healed and the system is quiet, after `chaos`."""
        place = _Place.of_caller()
        self._invariant("at_end", name, bool(holds()), place)

    def invoke(self, process: str, operation: str, input: Any = None) -> Invocation:
        """Writes into the case's history (`history.jsonl`) that an operation begins; its input may be any JSON.

        A process does one at a time. Its end follows, as far as it is known: `Invocation.ok`, `fail` or `unknown`. As a
        context manager it has an unknown end when its body has told none, or raises.
        """
        with self._telling_dropped, contextlib.suppress(queue.Empty):
            while True:
                self._history(*self._dropped.get_nowait(), "unknown", _GIVEN_UP)
        self._history(process, operation, "invoke", input)
        return Invocation(self, process, operation)

    def screenshot(self, name: str, url: str) -> Picture:
        """Takes a picture of a web page with a browser inside the lab's network, kept as `screenshots/NAME.png`.

        Where the host has no browser, the record says that the picture was skipped, and why.
        """
        request = {"name": name, "url": url, "deadline_ms": _milliseconds(_SCREENSHOT_DEADLINE)}
        answer = self._connection.call("screenshot", request)
        if "taken" in answer:
            return Picture(Path(answer["taken"]["path"]), answer["taken"]["size_bytes"], None)
        return Picture(None, 0, answer["skipped"]["reason"])

    def screenshot_like(
        self,
        name: str,
        url: str,
        expected: Path | str,
        *,
        channel_off_max: int = 8,
        pixels_off_percent_max: float = 0.01,
    ) -> Likeness:
        """Takes a picture as `screenshot` does, and checks that it looks like `expected`, a PNG of an earlier run.

        A pixel is the same where none of its colors differs by more than `channel_off_max` of 255. At most
        `pixels_off_percent_max` percent of all pixels may differ; `screenshots/NAME-difference.png` shows those that
        do. Pictures of different sizes fail. Where the host has no browser, nothing is checked, and the record says so.
        """
        place = _Place.of_caller()
        expected = Path(expected).absolute()
        request = {
            "name": name,
            "url": url,
            "deadline_ms": _milliseconds(_SCREENSHOT_DEADLINE),
            "expected": str(expected),
            "channel_off_max": channel_off_max,
        }
        answer = self._connection.call("screenshot.compare", request)
        if "skipped" in answer:
            return Likeness(None, None, 0, answer["skipped"]["reason"])
        condition = f"{url} looks like {expected.name}"
        if "other_size" in answer:
            found = answer["other_size"]
            sizes = (f"{which} = {_size(found[which])}" for which in ("taken", "expected"))
            self._record(False, condition, ", ".join(sizes), None, place)
            return Likeness(Path(found["path"]), None, 0, None)
        found = answer["compared"]
        percent = 100 * found["pixels_off"] / max(found["pixels"], 1)
        values = (
            f"pixels_off = {found['pixels_off']} of {found['pixels']}, {percent:.3f} %, "
            f"pixels_off_percent_max = {pixels_off_percent_max:g}, channel_off_max = {channel_off_max}"
        )
        self._record(percent <= pixels_off_percent_max, condition, values, None, place)
        difference = found["difference"]
        path = None if difference is None else Path(difference)
        return Likeness(Path(found["path"]), path, found["pixels_off"], None)

    @contextlib.contextmanager
    def _measured(self, operation: str, repetitions: int) -> Iterator[dict[str, Any]]:
        """Measures one repetition; when the body has ended, the value says whether the engine wants another one."""
        begin = {"operation": operation, "repetitions": repetitions}
        measurement = self._connection.call("measure.begin", begin)["measurement"]
        answer: dict[str, Any] = {}
        started = time.perf_counter()

        def end(succeeded: bool) -> None:
            duration_ms = (time.perf_counter() - started) * 1e3
            request = {"measurement": measurement, "succeeded": succeeded, "duration_ms": duration_ms}
            answer.update(self._connection.call("measure.end", request))

        with _told(end):
            yield answer

    def _check(
        self, passed: bool, condition: str, values: Mapping[str, object], message: str | None, place: _Place
    ) -> None:
        shown = ", ".join(f"{name} = {_shown(value)}" for name, value in values.items())
        self._record(passed, condition, shown, message, place)

    def _record(self, passed: bool, condition: str, values: str, message: str | None, place: _Place) -> None:
        file = self._shown(place.file)
        values, message = _clean(values), message if message is None else _clean(message)
        check = {"passed": passed, "condition": _clean(condition), "values": values, "file": file, "line": place.line}
        if message is not None:
            check["message"] = message
        if passed:
            self._connection.call("check", check)
            return
        parts = [f"check failed at {file}:{place.line}: {condition}", values, message]
        failed = CheckFailed("; ".join(part for part in parts if part))
        self._tell_failed(check, failed)
        raise failed

    def _tell_failed(self, check: dict[str, Any], failed: CheckFailed) -> None:
        """Reports a failed check; in the mark of a known defect only at its end, unless it is the expected failure."""
        held = self._held()
        if held:
            held[-1].append((check, failed))
        else:
            self._connection.call("check", check)

    def _invariant(
        self, kind: str, name: str, held: bool, place: _Place, *, looks: int = 1, missed: int = 0, values: str = ""
    ) -> None:
        file = self._shown(place.file)
        values = _clean(values)
        told = {"kind": kind, "name": _clean(name), "held": held, "looks": looks, "missed": missed, "values": values}
        self._connection.call("invariant", {**told, "file": file, "line": place.line})
        if not held and kind != "sometimes":
            raise CheckFailed("; ".join(filter(None, [f"check failed at {file}:{place.line}: {name}", values])))

    def _history(self, process: str, operation: str, phase: str, value: Any) -> None:
        told = {"process": process, "operation": operation, "phase": phase, "value": value}
        self._connection.call("history", told)

    def _held(self) -> list[list[tuple[dict[str, Any], CheckFailed]]]:
        """Checks that did not hold in the marks that the current thread stands in, the outermost mark first."""
        if not hasattr(self._marks, "held"):
            self._marks.held = []
        held: list[list[tuple[dict[str, Any], CheckFailed]]] = self._marks.held
        return held

    def _shown(self, file: str) -> str:
        """A source file from the project's folder, where it lies in there."""
        project = Path(os.path.abspath(self.fixture("../../../..")))
        path = Path(file).absolute()
        return str(path.relative_to(project)) if project in path.parents else str(path)


def run(scenario: Callable[[Lab], Any], *, defects: Callable[[Lab], Any] | None = None) -> NoReturn:
    """Runs a scenario in the lab that the engine made for it, and ends the process. Call it once, last in main.py.

    `defects` is the function that tries all known defects which scenario.toml lists, in a new lab and without anything
    else, for `cargo xtask defects`. In a usual run it is not called by itself: the scenario calls it where it fits.

    The scenario is a plain function: a coroutine or a generator is refused, its body never runs. Threads that it leaves,
    other than daemons, are waited for a moment.

    Exit status: 0 when the scenario returned, no thread ended with an exception and none still runs; 1 for an exception,
    a failed check, `sys.exit(0)` in place of a return, or a lost engine; 2 when there is no engine, because the program
    was started by hand.
    """
    _end(_run(scenario, defects))


def _run(scenario: Callable[[Lab], Any], defects: Callable[[Lab], Any] | None) -> int:
    path = os.environ.get(SOCKET_VARIABLE)
    if path is None:
        _say(f"this is a scenario of the e2e engine and needs a lab: run it with `cargo xtask e2e {Path.cwd().name}`")
        return 2
    try:
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connecting.connect(path)
        lab = Lab(_Connection(connecting, _end_at_once))
    except (OSError, Error) as error:
        _say(f"the engine did not accept this scenario: {_chain(error)} (socket {path})")
        return 1
    failed_threads: list[threading.Thread | None] = []
    default_hook = threading.excepthook

    def tell_of_thread(info: Any) -> None:
        if info.exc_type is not SystemExit:
            failed_threads.append(info.thread)
            # Those that follow from the first one say nothing new.
            if len(failed_threads) == 1 and info.exc_value is not None:
                _abort(lab, info.exc_value)
        default_hook(info)

    threading.excepthook = tell_of_thread
    try:
        _play(_asked(scenario, defects, lab), lab)
        if not failed_threads:
            _join_threads()
    except Exception as error:
        if isinstance(error, Error):
            _say(_chain(error))
        else:
            traceback.print_exc()
        _abort(lab, error)
        return 1
    return 1 if failed_threads else 0


def _asked(
    scenario: Callable[[Lab], Any], defects: Callable[[Lab], Any] | None, lab: Lab
) -> Callable[[Lab], Any]:
    """Returns the function that the engine asks for: the scenario, or the one that tries its known defects."""
    if not lab._welcome.get("defects_only"):
        return scenario
    if defects is None:
        raise Error(
            f"{lab.scenario} names no function that tries its known defects alone: write "
            "`e2e.run(scenario, defects=probes)`"
        )
    return defects


def _play(scenario: Callable[[Lab], Any], lab: Lab) -> None:
    try:
        returned = scenario(lab)
    except SystemExit as error:
        if error.code not in (None, 0):
            raise
        raise Error("the scenario called sys.exit(0): let it return instead") from error.__context__
    if inspect.isawaitable(returned) or inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        kind = type(returned).__name__
        raise Error(
            f"the scenario returned a {kind}, so that its body never ran: write `def`, not `async def`, and no `yield`"
        )


def _join_threads() -> None:
    """Waits a moment for threads that still run, because their failures count."""
    until = time.monotonic() + scaled(_THREADS_GRACE)
    left = _other_threads()
    for thread in left:
        thread.join(max(0.0, until - time.monotonic()))
    names = ", ".join(thread.name for thread in left if thread.is_alive())
    if names:
        raise Error(f"it ended although these threads still run: {names}: join them, or make them daemons")


def _other_threads() -> list[threading.Thread]:
    """Threads that Python waits for before it ends."""
    return [
        thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.current_thread()
    ]


def _abort(lab: Lab, error: BaseException) -> None:
    """Tells the engine why the scenario ends. Best effort: stderr has it too, and a check has told it already."""
    if any(isinstance(cause, CheckFailed) for cause in _causes(error)):
        return
    message = _clean(_chain(error))
    request = {"kind": "error" if isinstance(error, Error) else "panic", "message": message}
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = lab.fixture("").absolute().parent
    frames = [frame for frame in frames if own in Path(frame[0]).absolute().parents] or frames
    if frames:
        request["location"] = f"{lab._shown(frames[-1][0])}:{frames[-1][1]}"
    with contextlib.suppress(RequestError):
        lab._connection.call("abort", request, patience=scaled(_ABORT_PATIENCE))


def _end(status: int) -> NoReturn:
    """Ends the process, also when threads of the scenario still run: it would wait for them until the deadline."""
    if _other_threads():
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


def _end_at_once(reason: str) -> None:
    """Ends the process: without the engine the lab is going away, and nothing that is done now counts."""
    _say(f"the scenario ends here, the engine is gone: {reason}")
    sys.stdout.flush()
    os._exit(1)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class _Connection:
    """The connection to the engine: requests overlap, a reader thread matches the answers by id."""

    def __init__(self, connected: socket.socket, on_lost: Callable[[str], None]) -> None:
        self._socket = connected
        self._writing = threading.Lock()
        self._ids = itertools.count(1)
        #: Guards the two fields below.
        self._waiting_lock = threading.Lock()
        self._waiting: dict[int, Future[tuple[Any, dict[str, Any] | None]]] = {}
        self._lost: str | None = None
        #: How a source file is named to the engine; known after `hello`.
        self.shown: Callable[[str], str] | None = None
        threading.Thread(target=self._read, args=(on_lost,), name="e2e answers", daemon=True).start()

    def call(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        container: str | None = None,
        patience: float | None = None,
    ) -> Any:
        """Sends a request and waits for its answer, as long as the engine takes or `patience` seconds at most."""
        request_id = next(self._ids)
        request = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        frame = _authors_frame(sys._getframe(1)) if self.shown else None
        if self.shown and frame:
            request["location"] = f"{self.shown(frame.f_code.co_filename)}:{frame.f_lineno}"
        try:
            line = json.dumps(request, ensure_ascii=False).encode() + b"\n"
        except UnicodeEncodeError as error:
            raise RequestError(method, f"the request has a text that is no Unicode: {error}", container) from None
        if len(line) > LINE_BYTES_MAX:
            message = f"the request has {len(line)} bytes, a line has at most {LINE_BYTES_MAX}"
            raise RequestError(method, message, container)
        answered: Future[tuple[Any, dict[str, Any] | None]] = Future()
        with self._waiting_lock:
            if self._lost is not None:
                raise RequestError(method, self._lost, container)
            self._waiting[request_id] = answered
        with self._writing:
            try:
                self._socket.sendall(line)
            except OSError:
                # The engine often said why before it closed: the reader still gets that, then the end.
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
        try:
            result, failure = answered.result(patience)
        except ConnectionError as lost:
            raise RequestError(method, str(lost), container) from None
        except NoAnswer:
            with self._waiting_lock:
                self._waiting.pop(request_id, None)
            raise RequestError(method, f"no answer within {patience} s", container) from None
        if failure is not None:
            raise RequestError(method, failure["message"], container, failure["code"])
        return result

    def _read(self, on_lost: Callable[[str], None]) -> None:
        reason = self._deliver_answers()
        with self._waiting_lock:
            self._lost = reason
            waiting, self._waiting = self._waiting, {}
        for answered in waiting.values():
            answered.set_exception(ConnectionError(reason))
        on_lost(reason)

    def _deliver_answers(self) -> str:
        """Hands each answer to the request that waits for it, until the connection is lost; returns the reason."""
        with self._socket.makefile("rb") as lines:
            while True:
                try:
                    line = lines.readline(LINE_BYTES_MAX)
                except OSError as error:
                    return f"reading from the engine: {error}"
                if not line:
                    return "the engine closed the connection"
                if not line.endswith(b"\n"):
                    if len(line) == LINE_BYTES_MAX:
                        return f"the engine sent a line of more than {LINE_BYTES_MAX} bytes"
                    return "the engine closed the connection in the middle of a line"
                try:
                    response = json.loads(line)
                    request_id, failure = response["id"], response.get("error")
                except (ValueError, KeyError, TypeError, AttributeError):
                    return f"the engine sent a line that is no answer: {line[:80]!r}"
                if request_id is None:
                    message = failure["message"] if failure else "an answer without an id"
                    return f"the engine could not read a request: {message}"
                with self._waiting_lock:
                    answered = self._waiting.pop(request_id, None)
                if answered is not None:
                    answered.set_result((response.get("result"), failure))


#: Code that is nobody's scenario: this file, and what stands in Python's own folder.
_THIS_FILE = sys._getframe().f_code.co_filename
_PYTHON = os.path.dirname(os.__file__) + os.sep


def _authors_frame(frame: FrameType | None) -> FrameType | None:
    """Returns the innermost frame, from this one outwards, that the scenario's author wrote."""
    while frame:
        file = frame.f_code.co_filename
        if file != _THIS_FILE and not file.startswith((_PYTHON, "<")):
            return frame
        frame = frame.f_back
    return None


def _offer_stacks(path: str | None) -> None:
    """Has SIGUSR1 write the stack of the thread that gets it to a file, also while that thread waits in C code.

    The engine sends it to each thread when the scenario's time is over. A thread that wrote the stacks of others, which run or end
    meanwhile, could crash the process. A scenario that handles the signal by itself keeps its handler.
    """
    if path and signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        with contextlib.suppress(OSError, RuntimeError):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            faulthandler.register(signal.SIGUSR1, file=file, all_threads=False)


class _Place:
    """Place of a call in the scenario."""

    def __init__(self, frame: FrameType | None) -> None:
        self.file = frame.f_code.co_filename if frame else "unknown"
        self.line = frame.f_lineno if frame else 0
        self._method = ""

    @classmethod
    def of_caller(cls, skip: int = 0) -> _Place:
        """Returns the place of the caller of the method that calls this."""
        method = sys._getframe(1)
        frame: FrameType | None = method.f_back
        for _ in range(skip):
            frame = frame.f_back if frame else None
        place = cls(frame)
        place._method = method.f_code.co_name
        return place

    def argument(self, number: int) -> str | None:
        """An argument of the call as it stands in the source; None where the source cannot be read."""
        return _argument(self.file, self.line, self._method, number)


@functools.cache
def _source(file: str) -> tuple[str, list[ast.Call]]:
    """A source file, and its calls of methods in the order in which they begin."""
    text = Path(file).read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return text, sorted(calls, key=lambda call: (call.lineno, call.col_offset))


@functools.cache
def _argument(file: str, line: int, method: str, number: int) -> str | None:
    try:
        text, calls = _source(file)
    except (OSError, ValueError, SyntaxError):
        return None
    for call in reversed(calls):
        is_meant = isinstance(call.func, ast.Attribute) and call.func.attr == method
        if is_meant and call.lineno <= line <= (call.end_lineno or 0) and number < len(call.args):
            segment = ast.get_source_segment(text, call.args[number])
            return " ".join(segment.split()) if segment else None
    return None


@contextlib.contextmanager
def _told(end: Callable[[bool], None]) -> Iterator[None]:
    """Runs a body and then tells `end` whether it succeeded. Of two errors, the body's is raised."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(RequestError):
            end(False)
        raise
    end(True)


@contextlib.contextmanager
def _outgoing(content: Bytes) -> Iterator[dict[str, Any]]:
    """A stream to send: inline, or where it is large in a file that lives until the answer is there."""
    data = content.encode() if isinstance(content, str) else bytes(content)
    if len(data) <= STREAM_BYTES_MAX:
        yield _inline(data)
        return
    with tempfile.NamedTemporaryFile(prefix="e2e-") as file:
        file.write(data)
        file.flush()
        yield {"file": {"path": file.name, "bytes": len(data)}}


def _inline(data: bytes) -> dict[str, Any]:
    """Bytes inline: as text where that is no longer than base 64 (control characters take six bytes in JSON)."""
    with contextlib.suppress(UnicodeDecodeError):
        text = data.decode()
        if len(json.dumps(text, ensure_ascii=False).encode()) - 2 <= len(data) // 3 * 4 + 4:
            return {"text": text}
    return {"base64": base64.b64encode(data).decode()}


def _incoming(stream: Mapping[str, Any]) -> bytes:
    """The bytes of a received stream."""
    if "file" in stream:
        return Path(stream["file"]["path"]).read_bytes()
    if "base64" in stream:
        return base64.b64decode(stream["base64"], validate=True)
    return bytes(stream["text"].encode())


def _tail(stream: bytes) -> str:
    """The end of a stream as text."""
    tail = stream[-_TAIL_BYTES:].decode(errors="replace").rstrip()
    return f"[...] {tail}" if tail and len(stream) > _TAIL_BYTES else tail


def _milliseconds(seconds: float) -> int:
    """Whole milliseconds, at least one: a deadline of 0 would have passed already."""
    return max(1, int(seconds * 1e3))


def scaled(deadline: float) -> float:
    """Deadline on this machine, in seconds: longer on a slow one, by the factor that the engine uses for its own.

    `Lab.eventually` and requests are scaled already; this is for the time-outs of programs that a scenario puts into a
    container.
    """
    try:
        factor = float(os.environ.get(PATIENCE_VARIABLE, ""))
    except ValueError:
        return deadline
    return deadline * factor if 0 < factor < float("inf") else deadline


def _size(size: Mapping[str, int]) -> str:
    return f"{size['width_pixels']} x {size['height_pixels']}"


def _is_literal(text: str) -> bool:
    """Whether an expression is a literal, which shows its own value."""
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return False
    return True


def _clean(text: object) -> str:
    """A text that the engine accepts, whatever was in it: otherwise a failure with it could not be reported."""
    whole = str(text).encode(errors="replace").decode()
    if len(whole) <= _TEXT_CHARACTERS_MAX:
        return whole
    return f"{whole[:_TEXT_CHARACTERS_MAX]} [... cut after {_TEXT_CHARACTERS_MAX} characters]"


def _shown(value: object) -> str:
    text = repr(value)
    if len(text) <= _VALUE_CHARACTERS_MAX:
        return text
    return f"{text[:_VALUE_CHARACTERS_MAX]} [... cut after {_VALUE_CHARACTERS_MAX} characters]"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what led to it, the last one first."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _chain(error: BaseException) -> str:
    """An exception and its causes, one a line. Errors of this file say all in their text, others in their type too."""
    return "\n  caused by: ".join(_text(cause) for cause in _causes(error))


def _direct_causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that it and they name as their causes: not others that happened to be handled then."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__


def _is_of_the_engine(error: BaseException) -> bool:
    """Whether a request failed because the host has failed or the session is over."""
    codes = (None, CODE_INFRASTRUCTURE, CODE_INTERRUPTED)
    return any(isinstance(cause, RequestError) and cause.code in codes for cause in _causes(error))


def _text(error: BaseException) -> str:
    name = "" if isinstance(error, Error) else type(error).__name__
    return ": ".join(part for part in (name, str(error)) if part)
