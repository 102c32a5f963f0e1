"""Tests of e2e.py against an engine's side in the same process: `python3 -m unittest discover xtask/sdk/python`.

Whatever the client sends, and whatever these tests answer, is held to the contract's reference.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest
from unittest import mock
from collections.abc import Callable
from pathlib import Path
from typing import Any

import e2e

HERE = Path(__file__).resolve().parent
REFERENCE: dict[str, Any] = json.loads((HERE / "../../contract/reference.json").read_text(encoding="utf-8"))
TYPES: dict[str, Any] = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
TYPES.update({"object": dict, "array": list})

Answer = Callable[[str, dict[str, Any]], Any]


def faults(value: Any, schema: dict[str, Any], place: str = "") -> list[str]:
    """Lists how a value breaks a JSON Schema, as far as the reference uses JSON Schema."""
    known = {"$ref", "type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems"}
    known |= {"maxItems", "oneOf", "anyOf", "const", "minimum", "maximum", "format", "description", "default"}
    if set(schema) - known:
        return [f"{place}: this test does not understand {set(schema) - known}"]
    if "$ref" in schema:
        return faults(value, REFERENCE["$defs"][schema["$ref"].rpartition("/")[2]], place)
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            each = [faults(value, option, place) for option in schema[choice]]
            if sum(not found for found in each) != 1:
                return [f"{place}: {value!r} is not one of {len(each)} shapes: {each}"]
    if "const" in schema and value != schema["const"]:
        return [f"{place}: {value!r} is not {schema['const']!r}"]
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        wanted = [TYPES[name] for name in names]
        if not any(isinstance(value, kind) and (kind is bool) == isinstance(value, bool) for kind in wanted):
            return [f"{place}: {value!r} is no {' or '.join(names)}"]
    found = []
    if isinstance(value, (int, float)) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{place}: {value!r} is out of range")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f"{place}.{name} is missing" for name in schema.get("required", []) if name not in value]
        if schema.get("additionalProperties", True) is False:
            found += [f"{place}.{name} does not exist" for name in value if name not in properties]
        for name in value.keys() & properties.keys():
            found += faults(value[name], properties[name], f"{place}.{name}")
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{place}: {len(value)} items")
        for number, item in enumerate(value):
            found += faults(
                item, first[number] if number < len(first) else schema.get("items", {}), f"{place}[{number}]"
            )
    return found


class Refusal(Exception):
    """An answer with a code of the contract instead of a result."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code: int = REFERENCE["error_codes"][code]["code"]


class Engine:
    """The engine's side: answers one request after the other, and keeps all requests."""

    def __init__(self, folder: Path, answer: Answer) -> None:
        self.folder = folder
        self.answer = answer
        self.requests: list[tuple[str, dict[str, Any]]] = []
        #: Methods of requests after `hello`, with their places in the scenario.
        self.places: list[tuple[str, str | None]] = []
        #: What was wrong with a request or an answer.
        self.faults: list[str] = []
        #: Whether the scenario's known defects alone are asked for.
        self.defects_only = False

    def of(self, method: str) -> list[dict[str, Any]]:
        return [params for name, params in self.requests if name == method]

    def serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            for line in lines:
                connection.sendall(json.dumps(self.respond(json.loads(line))).encode() + b"\n")

    def respond(self, request: dict[str, Any]) -> dict[str, Any]:
        self.faults += faults(request, REFERENCE["envelope"]["request"], "request")
        name, params = request["method"], request["params"]
        if name != "hello":
            self.places.append((name, request.get("location")))
        method = REFERENCE["methods"].get(name)
        if method is None:
            self.faults.append(f"there is no method {name}")
            return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": f"no method {name}"}}
        self.faults += faults(params, method["params"], name)
        try:
            result = self.welcome() if name == "hello" else self.answer(name, params)
        except Refusal as refusal:
            error = {"code": refusal.code, "message": str(refusal)}
            self.requests.append((name, params))
            return {"jsonrpc": "2.0", "id": request["id"], "error": error}
        if name != "hello":
            self.requests.append((name, params))
        response = {"jsonrpc": "2.0", "id": request["id"], "result": result}
        self.faults += faults(result, method["answer"], f"answer of {name}")
        self.faults += faults(response, REFERENCE["envelope"]["response"], f"response to {name}")
        return response

    def welcome(self) -> dict[str, Any]:
        scenario = self.folder / "scenarios/smoke/peer"
        return {
            "scenario": "smoke/peer",
            "case": "large",
            "params": {"rows": 20_000, "kind": "orders", "ratio": 0.5},
            "containers": [
                {"name": name, "host_name": f"x-{name}", "address": f"10.77.0.{last}", "template": "mini"}
                for name, last in (("app", 11), ("db", 12))
            ],
            "fixtures": str(scenario / "fixtures"),
            "artifacts": str(self.folder / "artifacts"),
            "stack_file": str(self.folder / "stacks"),
            "defects_only": self.defects_only,
        }


def plain(method: str, params: dict[str, Any]) -> Any:
    """The shortest answers that an engine may give."""
    answers: dict[str, Any] = {
        "exec": {"status": 0, "stdout": {"text": ""}, "stderr": {"text": ""}, "duration_ms": 12.5, "timed_out": False},
        "get": {"text": "content"},
        "wait": {"duration_ms": 250.0},
        "measure.begin": {"measurement": 7},
        "measure.end": {"more": True},
        "fault.inject": {"fault": 3, "evidence": "no answer from db"},
        "fault.heal": {"evidence": "db answers"},
        "chaos.begin": {"playing": True, "length_ms": 60_000},
        "settle": {"bit": 1, "refused": 0},
        "screenshot.compare": {"skipped": {"reason": "no browser: install chromium"}},
        "screenshot": {"skipped": {"reason": "no browser: install chromium"}},
    }
    return answers.get(method, {})


class Joined(unittest.TestCase):
    """A lab whose engine is a thread of this process."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.engine = Engine(Path(folder.name), plain)
        self.lost: list[str] = []
        self.lab = self.join()

    def tearDown(self) -> None:
        self.assertEqual(self.engine.faults, [])

    def join(self) -> e2e.Lab:
        ours, theirs = socket.socketpair()
        serving = threading.Thread(target=self.engine.serve, args=(theirs,))
        serving.start()
        self.addCleanup(serving.join)
        self.addCleanup(ours.close)
        self.addCleanup(ours.shutdown, socket.SHUT_RDWR)
        return e2e.Lab(e2e._Connection(ours, self.lost.append))


def line_of(text: str) -> int:
    """Number of the line of this file that has this text and ends with a mark."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    [number] = [number for number, line in enumerate(lines, 1) if text in line and line.endswith("# here")]
    return number


class LabTest(Joined):
    def test_what_it_knows_and_what_it_does_not(self) -> None:
        lab = self.lab
        self.assertEqual((lab.scenario, lab.case), ("smoke/peer", "large"))
        self.assertEqual(
            (lab.param("rows", int), lab.param("kind"), lab.param("ratio", float)), (20_000, "orders", 0.5)
        )
        self.assertEqual([container.name for container in lab.containers], ["app", "db"])
        self.assertEqual(lab.container("db").address, "10.77.0.12")
        self.assertEqual(lab.fixture("rows.csv"), self.engine.folder / "scenarios/smoke/peer/fixtures/rows.csv")
        with self.assertRaisesRegex(e2e.Error, r"smoke/peer has no container bd \(it has: app, db\)"):
            lab.container("bd")
        with self.assertRaisesRegex(
            e2e.Error, r"no parameter columns \(it has: rows, kind, ratio\): write `columns = "
        ):
            lab.param("columns")
        with self.assertRaisesRegex(e2e.Error, r"kind of case large of smoke/peer is 'orders' .*, no int"):
            lab.param("kind", int)
        with self.assertRaisesRegex(e2e.Error, r"the secret NO_SUCH_SECRET was not given to this run: set the "):
            lab.secret("NO_SUCH_SECRET")
        self.assertEqual(lab.secret("PATH"), os.environ["PATH"])

    def test_steps_tell_how_they_ended(self) -> None:
        with self.lab.step("outer"), self.lab.step("inner"):
            pass
        with self.assertRaises(KeyError), self.lab.step("bad"):
            raise KeyError("x")
        edges = [(step["name"], step["edge"]) for step in self.engine.of("step")]
        good = [("outer", "begin"), ("inner", "begin"), ("inner", "passed"), ("outer", "passed")]
        self.assertEqual(edges, [*good, ("bad", "begin"), ("bad", "failed")])

    def test_measured_operations_end_at_the_first_error(self) -> None:
        left = [3, 2, 1, 0]
        with self.assertRaises(ZeroDivisionError):
            self.lab.measure_n("query", 5, lambda: 1 / left.pop(0))
        begins, ends = self.engine.of("measure.begin"), self.engine.of("measure.end")
        self.assertEqual(begins, [{"operation": "query", "repetitions": 5}] * 4)
        self.assertEqual([end["succeeded"] for end in ends], [True, True, True, False])
        with self.assertRaisesRegex(e2e.Error, "query is to be measured 0 times"):
            self.lab.measure_n("query", 0, list)

    def test_an_operation_is_repeated_as_often_as_the_engine_wants(self) -> None:
        answers = [True, True, True, True, False]
        self.engine.answer = lambda method, params: (
            {"more": answers.pop(0)} if method == "measure.end" else plain(method, params)
        )
        runs: list[int] = []
        self.lab.measure_n("query", 3, lambda: runs.append(1))
        self.assertEqual((len(runs), answers), (5, []))

    def test_metrics_have_unit_and_direction(self) -> None:
        self.lab.metric("throughput", 812.5, "records/s", "higher")
        wanted = {"name": "throughput", "value": 812.5, "unit": "records/s", "better": "higher"}
        self.assertEqual(self.engine.of("metric"), [wanted])

    def test_a_measurement_has_the_time_of_its_body(self) -> None:
        before = time.perf_counter()
        with self.lab.measure("spin"):
            started = time.perf_counter()
            while time.perf_counter() - started < 0.005:
                pass
        after = time.perf_counter()
        self.assertEqual(self.engine.of("measure.begin"), [{"operation": "spin", "repetitions": 1}])
        [end] = self.engine.of("measure.end")
        self.assertTrue(5.0 <= end["duration_ms"] <= (after - before) * 1e3, end)

    def test_checks_are_recorded_with_condition_values_and_place(self) -> None:
        rows, most = 19_999, 30_000
        self.lab.check(rows < most, "not too many", rows=rows, most=most)  # here
        self.lab.check(
            most - rows,
        )
        self.lab.check_equal(rows + 1, 20_000)
        with self.assertRaisesRegex(e2e.CheckFailed, r"rows == 20_000; rows = 19999; every row was loaded$"):
            self.lab.check_equal(rows, 20_000, "every row was loaded")
        with self.assertRaises(e2e.CheckFailed):
            self.lab.check_equal("x" * 3000, "")
        checks = self.engine.of("check")
        self.assertEqual(
            checks[0],
            {
                "passed": True,
                "condition": "rows < most",
                "values": "rows = 19999, most = 30000",
                "message": "not too many",
                "file": __file__,
                "line": line_of("rows < most"),
            },
        )
        shown = [(check["passed"], check["condition"], check["values"]) for check in checks[1:4]]
        self.assertEqual(
            shown,
            [
                (True, "most - rows", ""),
                (True, "rows + 1 == 20_000", "rows + 1 = 20000"),
                (False, "rows == 20_000", "rows = 19999"),
            ],
        )
        self.assertRegex(checks[4]["values"], r"x{1999} \[\.\.\. cut after 2000 characters\]$")

    def test_a_check_whose_source_is_gone_says_what_it_can(self) -> None:
        names = {"lab": self.lab}
        exec(compile("lab.check(1 == 1, 'one is one')\nlab.check_equal(1, 1)", "/no/such/file.py", "exec"), names)
        conditions = [check["condition"] for check in self.engine.of("check")]
        self.assertEqual(conditions, ["one is one", "left == right"])

    def test_a_file_of_the_project_is_shown_from_its_root(self) -> None:
        main = self.engine.folder / "scenarios/smoke/peer/main.py"
        exec(compile("lab.check(True)", str(main), "exec"), {"lab": self.lab})
        self.assertEqual(self.engine.of("check")[0]["file"], "scenarios/smoke/peer/main.py")

    def test_eventually_asks_until_it_is_true_or_late(self) -> None:
        answers = [0, "", True]
        self.assertLess(self.lab.eventually("the alert is raised", 60, lambda: answers.pop(0)), 60)
        with self.assertRaisesRegex(e2e.CheckFailed, r"the moon is full; within 0\.05 s: not after 0\.\d+ s"):
            self.lab.eventually("the moon is full", 0.05, lambda: False)
        with self.assertRaises(IndexError):
            self.lab.eventually("it breaks", 60, lambda: answers.pop(0))
        checks = self.engine.of("check")
        self.assertEqual([check["passed"] for check in checks], [True, False])
        self.assertRegex(checks[0]["values"], r"^within 60 s: took \d+\.\d{3} s$")

    def test_a_slow_machine_has_longer_deadlines(self) -> None:
        cases = {"4": 0.2, "": 0.05, "auto": 0.05, "0": 0.05, "inf": 0.05, "nan": 0.05}
        for factor, deadline in cases.items():
            with mock.patch.dict(os.environ, {e2e.PATIENCE_VARIABLE: factor}):
                with self.assertRaisesRegex(e2e.CheckFailed, rf"within {deadline:g} s: not after"):
                    self.lab.eventually("the moon is full", 0.05, lambda: False)

    def test_known_defects(self) -> None:
        with self.lab.known_defect("p-1/a", failing_with="no table"):  # here
            try:
                raise KeyError("no table")
            except KeyError as cause:
                raise ValueError("df") from cause
        with self.lab.known_defect("p-1/b", failing_with="gone") as mark:
            mark.observed("worker has the file: 34 bytes\n")
            mark.observed(" ")
            mark.observed(2)
        with self.lab.known_defect("p-1/c", failing_with="no table") as mark:
            mark.observed("a table")
            raise OSError("disk full")
        with self.lab.known_defect("p-1/d", failing_with="1 == 2"):
            self.lab.check(2 == 2, "a check that holds is recorded")
            self.lab.check_equal(1, 2, "one that does not is the body's failure, and no failure of the case")
        for effect in ([], ["", "\n"]):
            with self.lab.known_defect("p-1/e", failing_with="no table") as mark:
                list(map(mark.observed, effect))
        with self.assertRaises(e2e.CheckFailed):
            self.lab.check(False, "outside of a mark it is one")
        told = [(defect["defect"], defect["outcome"], defect.get("failure")) for defect in self.engine.of("defect")]
        self.assertEqual(told[0], ("p-1/a", "known", "ValueError: df\n  caused by: KeyError: 'no table'"))
        self.assertEqual(told[1:3], [("p-1/b", "fixed", None), ("p-1/c", "different", "OSError: disk full")])
        self.assertEqual(told[3][:2], ("p-1/d", "known"))
        self.assertEqual(told[4:], [("p-1/e", "different", None)] * 2)
        seen = [defect.get("observed") for defect in self.engine.of("defect")]
        self.assertEqual(seen, [None, "worker has the file: 34 bytes; 2", "a table", None, None, None])
        self.assertRegex(told[3][2] or "", r"^check failed at .*test_e2e\.py:\d+: 1 == 2; one that does not")
        place = self.engine.of("defect")[0]
        self.assertEqual((place["file"], place["line"]), (__file__, line_of("p-1/a")))
        self.assertEqual([check["passed"] for check in self.engine.of("check")], [True, False])

    def test_a_body_that_the_host_ends_is_told_and_ends_the_scenario(self) -> None:
        def refuse(method: str, params: dict[str, Any]) -> Any:
            if method == "exec":
                raise Refusal(code, "no answer")
            return plain(method, params)

        self.engine.answer = refuse
        for code in ("Infrastructure", "Interrupted"):
            with self.assertRaisesRegex(e2e.Error, "^p-1/a could not be tried$") as raised:
                with self.lab.known_defect("p-1/a", failing_with="no table"):
                    self.lab.container("db").exec(["true"])
            self.assertIsInstance(raised.exception.__cause__, e2e.RequestError)
        code = "Unavailable"
        with self.lab.known_defect("p-1/a", failing_with="no table"):
            self.lab.container("db").exec(["true"])
        self.assertEqual([defect["outcome"] for defect in self.engine.of("defect")], ["different"] * 3)

    def test_only_the_expected_failure_is_excused(self) -> None:
        with self.lab.known_defect("p-1/a", failing_with="boom"):
            try:
                raise e2e.Error("boom")
            finally:
                self.lab.check(False, "another")
        with self.lab.known_defect("p-1/b", failing_with="boom"):
            with contextlib.suppress(e2e.CheckFailed):
                self.lab.check(False, "swallowed")
            raise e2e.Error("boom")
        with self.lab.known_defect("p-1/c", failing_with="boom"):
            with contextlib.suppress(e2e.CheckFailed):
                self.lab.check(False, "and it passes")
        with self.assertRaises(KeyboardInterrupt):
            with self.lab.known_defect("p-1/d", failing_with="boom"):
                with contextlib.suppress(e2e.CheckFailed):
                    self.lab.check(False, "amid an interrupt")
                raise KeyboardInterrupt
        with self.lab.known_defect("p-1/e", failing_with="boom"):
            with self.lab.known_defect("p-1/f", failing_with="other"):
                with contextlib.suppress(e2e.CheckFailed):
                    self.lab.check(False, "in two marks")
                raise e2e.Error("other")
        told = [check["message"] for check in self.engine.of("check")]
        self.assertEqual(told, ["another", "swallowed", "and it passes", "amid an interrupt", "in two marks"])
        with self.lab.known_defect("p-1/g", failing_with="boom"):
            try:
                self.lab.check(False, "boom")
            except e2e.CheckFailed as cause:
                raise e2e.Error("wrapped") from cause
        self.assertEqual(len(self.engine.of("check")), len(told), "the expected one is excused")

    def test_a_program_that_failed_is_no_truth(self) -> None:
        failed = e2e.Finished(1, b"", b"", 0.1, False, "db", ["false"], 5.0)
        late = e2e.Finished(0, b"", b"", 0.1, True, "db", ["sleep"], 5.0)
        good = e2e.Finished(0, b"", b"", 0.1, False, "db", ["true"], 5.0)
        for finished in (failed, late):
            with self.assertRaises(e2e.CheckFailed):
                self.lab.check(finished)
        self.lab.check(good)
        self.lab.eventually("up", 1, lambda: good.success())

    def test_a_failed_check_is_told_whatever_its_text(self) -> None:
        for text in ("lost \udcff", "x" * (70 << 20)):
            with self.assertRaises(e2e.CheckFailed):
                self.lab.check(False, text)
        messages = [check["message"] for check in self.engine.of("check")]
        self.assertEqual(messages[0], "lost ?")
        self.assertRegex(messages[1], r"x \[\.\.\. cut after 1048576 characters\]$")

    def test_a_mark_is_its_threads_alone(self) -> None:
        def elsewhere() -> None:
            with contextlib.suppress(e2e.CheckFailed):
                self.lab.check(False, "a failure of the case")

        with self.lab.known_defect("p-1/a", failing_with="x"):
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            raise ValueError("x")
        self.assertEqual(len(self.engine.of("check")), 1)

    def test_artifacts_logs_and_pictures(self) -> None:
        self.lab.artifact("out.json", "{}")
        self.lab.log("look")
        self.lab.log("look out", level="warning")
        picture = self.lab.screenshot("status", "http://app/status")
        self.assertEqual((picture.path, picture.reason), (None, "no browser: install chromium"))
        self.engine.answer = lambda *_: {"taken": {"path": "/run/status.png", "size_bytes": 9}}
        picture = self.lab.screenshot("status", "http://app/status")
        self.assertEqual(picture, e2e.Picture(Path("/run/status.png"), 9, None))
        self.assertEqual(self.engine.of("artifact"), [{"name": "out.json", "content": {"text": "{}"}}])
        self.assertEqual([log["level"] for log in self.engine.of("log")], ["info", "warning"])
        expected = {"name": "status", "url": "http://app/status", "deadline_ms": 30_000}
        self.assertEqual(self.engine.of("screenshot"), [expected] * 2)

    def test_a_picture_is_checked_to_look_like_another(self) -> None:
        def like(answer: dict[str, Any] | None = None) -> e2e.Likeness:
            self.engine.answer = plain if answer is None else lambda method, _: {} if method == "check" else answer
            return self.lab.screenshot_like("status", "http://app/status", "/x/old.png", pixels_off_percent_max=1)

        self.assertEqual(like().reason, "no browser: install chromium")
        self.assertEqual(self.engine.of("check"), [])
        found: dict[str, Any] = {"path": "/run/new.png", "difference": None, "pixels_off": 1, "pixels": 100}
        self.assertEqual(like({"compared": found}), e2e.Likeness(Path("/run/new.png"), None, 1, None))
        with self.assertRaises(e2e.CheckFailed):
            like({"compared": {**found, "pixels_off": 2, "difference": "/run/difference.png"}})
        wide = {"width_pixels": 4, "height_pixels": 1}
        with self.assertRaisesRegex(e2e.CheckFailed, "taken = 4 x 1, expected = 4 x 1"):
            like({"other_size": {"path": "/run/new.png", "taken": wide, "expected": wide}})
        checks = self.engine.of("check")
        self.assertEqual([check["passed"] for check in checks], [True, False, False])
        self.assertEqual(checks[1]["condition"], "http://app/status looks like old.png")
        values = "pixels_off = 2 of 100, 2.000 %, pixels_off_percent_max = 1, channel_off_max = 8"
        self.assertEqual(checks[1]["values"], values)
        request = self.engine.of("screenshot.compare")[0]
        self.assertEqual((request["expected"], request["channel_off_max"]), ("/x/old.png", 8))


class ChaosTest(Joined):
    def methods(self) -> list[str]:
        return [name for name, _ in self.engine.requests]

    def test_everything_is_healed_and_quiet_before_the_watches_end(self) -> None:
        looks = threading.Event()
        with self.lab.chaos() as chaos:
            self.assertTrue(chaos.is_playing and chaos.lasts())
            chaos.always("no row is there twice", lambda: looks.set() or True)  # here
            self.assertTrue(looks.wait(60), "it is looked at while faults are played")
        self.assertEqual(self.methods(), ["chaos.begin", "settle", "invariant"])
        [told] = self.engine.of("invariant")
        self.assertGreaterEqual(told.pop("looks"), 2, "once more when all is over")
        expected = {"kind": "always", "name": "no row is there twice", "held": True, "missed": 0, "values": ""}
        self.assertEqual(told, {**expected, "file": __file__, "line": line_of("no row is there twice")})

    def test_without_chaos_the_body_runs_and_nothing_lasts(self) -> None:
        still = {"chaos.begin": {"playing": False, "length_ms": 0}}
        self.engine.answer = lambda method, params: still.get(method) or plain(method, params)
        with self.lab.chaos() as chaos:
            self.assertFalse(chaos.is_playing or chaos.lasts())
            chaos.always("one look is made in the shortest body", lambda: True)
        self.assertTrue(self.engine.of("invariant")[0]["held"])

    def test_faults_that_are_over_do_not_last(self) -> None:
        over = {"chaos.begin": {"playing": True, "length_ms": 0}}
        self.engine.answer = lambda method, params: over.get(method) or plain(method, params)
        with self.lab.chaos() as chaos:
            self.assertTrue(chaos.is_playing)
            self.assertFalse(chaos.lasts())

    def test_one_look_that_does_not_hold_is_enough_and_one_without_an_answer_says_nothing(self) -> None:
        answers = [True, OSError("down"), 1, False, True]
        over = threading.Event()

        def holds() -> object:
            answer = answers.pop(0)
            if answer is False:
                over.set()
            if isinstance(answer, Exception):
                raise answer
            return answer

        with self.assertRaisesRegex(e2e.CheckFailed, r"^check failed at .*test_e2e\.py:\d+: rows are whole$"):
            with self.lab.chaos() as chaos:
                chaos.always("rows are whole", holds)
                self.assertTrue(over.wait(60))
        [told] = self.engine.of("invariant")
        self.assertEqual((told["held"], told["looks"], told["missed"], told["values"]), (False, 4, 1, ""))
        self.assertEqual(answers, [True], "nobody looks any more")

    def test_what_could_never_be_looked_at_has_failed(self) -> None:
        def holds() -> bool:
            raise OSError("down")

        with self.assertRaisesRegex(e2e.CheckFailed, "it could never be evaluated: OSError: down"):
            with self.lab.chaos() as chaos:
                chaos.always("rows are whole", holds)
        [told] = self.engine.of("invariant")
        self.assertEqual((told["held"], told["looks"] == told["missed"] > 0), (False, True))
        self.assertEqual(told["values"], "it could never be evaluated: OSError: down")

    def test_a_body_that_fails_ends_the_watches_and_says_why(self) -> None:
        with self.assertRaises(KeyError), self.lab.chaos() as chaos:
            chaos.always("one that does not hold", lambda: False)
            chaos.always("one that holds", lambda: True)
            raise KeyError("x")
        self.assertEqual(self.engine.of("settle"), [])
        self.assertEqual(sorted(told["held"] for told in self.engine.of("invariant")), [False, True])

    def test_a_system_that_does_not_recover_is_an_error(self) -> None:
        def late(method: str, params: dict[str, Any]) -> Any:
            if method == "settle":
                raise Refusal("Deadline", "after the last fault was healed: db is not ready")
            return plain(method, params)

        self.engine.answer = late
        with self.assertRaisesRegex(e2e.RequestError, "settle: after the last fault") as raised, self.lab.chaos():
            pass
        self.assertTrue(raised.exception.is_deadline)

    def test_what_has_to_come_true_and_what_holds_at_the_end(self) -> None:
        self.lab.sometimes("a job was done again", 0)  # here
        self.lab.at_end("nothing is lost", lambda: [1])
        with self.assertRaisesRegex(e2e.CheckFailed, r"^check failed at .*test_e2e\.py:\d+: nothing is there twice$"):
            self.lab.at_end("nothing is there twice", lambda: [])
        with self.assertRaises(ZeroDivisionError):
            self.lab.at_end("it breaks", lambda: 1 / 0)
        told = self.engine.of("invariant")
        self.assertEqual(
            [(one["kind"], one["name"], one["held"]) for one in told],
            [
                ("sometimes", "a job was done again", False),
                ("at_end", "nothing is lost", True),
                ("at_end", "nothing is there twice", False),
            ],
        )
        self.assertEqual((told[0]["file"], told[0]["line"]), (__file__, line_of("a job was done again")))

    def history(self) -> list[tuple[str, str, Any]]:
        return [(told["operation"], told["phase"], told["value"]) for told in self.engine.of("history")]

    def test_the_history_has_how_each_operation_ended(self) -> None:
        with self.lab.invoke("client", "read", {"row": 1}) as reading:
            reading.ok([1, "x"])
        self.lab.invoke("client", "write", 2).fail("refused")
        self.lab.invoke("client", "wait").unknown("no answer")
        with self.assertRaises(ValueError), self.lab.invoke("client", "break"):
            raise ValueError("\udcff")
        with self.lab.invoke("client", "forget"):
            pass
        with self.assertRaisesRegex(e2e.Error, "read of client has ended already"):
            reading.fail()
        self.assertEqual(
            self.history(),
            [
                ("read", "invoke", {"row": 1}),
                ("read", "ok", [1, "x"]),
                ("write", "invoke", 2),
                ("write", "fail", "refused"),
                ("wait", "invoke", None),
                ("wait", "unknown", "no answer"),
                ("break", "invoke", None),
                ("break", "unknown", "ValueError: ?"),
                ("forget", "invoke", None),
                ("forget", "unknown", "the scenario reported no end"),
            ],
        )
        self.assertEqual({told["process"] for told in self.engine.of("history")}, {"client"})

    def test_a_dropped_operation_ends_before_the_next_begins(self) -> None:
        dropped = self.lab.invoke("client", "read")
        del dropped
        kept = self.lab.invoke("other", "write")
        phases = [(operation, phase) for operation, phase, _ in self.history()]
        self.assertEqual(phases, [("read", "invoke"), ("read", "unknown"), ("write", "invoke")])
        kept.ok()

    def test_an_operation_that_may_not_begin_has_no_end(self) -> None:
        def busy(method: str, params: dict[str, Any]) -> Any:
            raise Refusal("InvalidParams", "process client of the history is still in operation read")

        self.engine.answer = busy
        with self.assertRaisesRegex(e2e.RequestError, "history: process client of the history is still"):
            self.lab.invoke("client", "write")
        self.engine.answer = plain
        self.lab.invoke("client", "read").ok()
        self.assertEqual([phase for _, phase, _ in self.history()], ["invoke", "invoke", "ok"])


class ContainerTest(Joined):
    def setUp(self) -> None:
        super().setUp()
        self.db = self.lab.container("db")

    def test_a_program_with_everything(self) -> None:
        finished = self.db.exec(["psql", "-c", "it's"], user="postgres", env={"A": "b c"}, stdin="in", deadline=1.5)
        self.assertEqual((finished.status, finished.duration), (0, 0.0125))
        self.assertEqual(
            self.engine.of("exec"),
            [
                {
                    "container": "db",
                    "argv": ["psql", "-c", "it's"],
                    "stdin": {"text": "in"},
                    "environment": [["A", "b c"]],
                    "user": "postgres",
                    "deadline_ms": 1500,
                }
            ],
        )
        self.db.sh("a | b", user="postgres", deadline=0)
        expected = {"container": "db", "argv": ["/bin/sh", "-c", "a | b"], "user": "postgres", "deadline_ms": 1}
        self.assertEqual(self.engine.of("exec")[1], expected)
        with self.assertRaisesRegex(TypeError, "'ls -l' is no list of words"):
            self.db.exec("ls -l")

    def test_a_failed_program_says_everything(self) -> None:
        result = {"status": 3, "stdout": {"text": "out\n"}, "stderr": {"base64": "b2gK/w=="}, "duration_ms": 1.0}
        self.engine.answer = lambda *_: {**result, "timed_out": False}
        finished = self.db.exec(["psql", "it's"])
        with self.assertRaises(e2e.ExecFailed) as raised:
            finished.success()
        self.assertEqual(
            str(raised.exception),
            "exec in db ended with status 3: \ufffd\n  command: `psql 'it'\"'\"'s'`\n"
            "  stdout: out\n  stderr: oh\n          \ufffd",
        )
        self.assertIs(raised.exception.finished, finished)
        self.assertEqual(finished.stdout_text, "out\n")
        with self.assertRaisesRegex(e2e.Error, "stderr of `psql .*` in db is not text"):
            _ = finished.stderr_text
        self.engine.answer = lambda *_: {**result, "timed_out": True}
        with self.assertRaisesRegex(e2e.ExecFailed, r"did not end within 0\.5 s and was killed"):
            self.db.exec(["sleep", "9"], deadline=0.5).success()

    def test_a_silent_program_is_named_at_once(self) -> None:
        result = {"status": 7, "stdout": {"text": "\n"}, "stderr": {"text": ""}, "duration_ms": 1.0, "timed_out": False}
        self.engine.answer = lambda *_: result
        with self.assertRaises(e2e.ExecFailed) as raised:
            self.db.sh("exit 7").success()
        self.assertEqual(
            str(raised.exception), "exec in db ended with status 7 and said nothing: `/bin/sh -c 'exit 7'`"
        )

    def test_each_request_has_the_place_of_the_scenario_that_made_it(self) -> None:
        def line() -> int:
            return sys._getframe(1).f_lineno

        def of_a_helper() -> None:
            self.db.get("/x")

        first = line() + 1
        self.db.exec(["true"])
        self.db.sh("true")
        self.db.write("/x", "x")
        self.db.wait_for_port(1)
        self.lab.log("x")
        self.lab.metric("x", 1.0, "s", "lower")
        self.lab.invoke("a", "x").ok()
        list(map(self.db.get, ["/x"]))
        self.db.inject("node.kill").heal()
        self.lab.screenshot("x", "http://db/")
        with self.lab.step("x"), self.lab.measure("x"), self.lab.chaos():
            of_a_helper()
        last = line() - 1
        helper = of_a_helper.__code__.co_firstlineno + 1
        own = Path(__file__).absolute()
        places = {}
        for method, place in self.engine.places:
            file, _, number = (place or "").rpartition(":")
            self.assertEqual(file, str(own), method)
            places.setdefault(int(number), []).append(method)
        self.assertEqual(places.pop(helper), ["get"])
        self.assertTrue(set(places) <= set(range(first, last + 1)), places)
        self.assertGreaterEqual(len(places), 10, places)

    def test_streams_of_any_kind_and_size_survive(self) -> None:
        seen: list[dict[str, Any]] = []

        def echo(_: str, params: dict[str, Any]) -> Any:
            stream = params["stdin"]
            seen.append(stream)
            if "file" in stream:  # the file goes away with the request
                copy = self.engine.folder / "copy"
                copy.write_bytes(Path(stream["file"]["path"]).read_bytes())
                stream = {"file": {"path": str(copy), "bytes": copy.stat().st_size}}
            return {**plain("exec", {}), "stdout": stream}

        self.engine.answer = echo
        large = bytes(number % 251 for number in range(e2e.STREAM_BYTES_MAX + 1))
        for content in (b"text\n", "zw\u00f6lf".encode(), b"\xff\x00\x01", b"", b"\x00" * 3000, b'"' * 3000, large):
            finished = self.db.exec(["cat"], stdin=content)
            self.assertTrue(finished.stdout == content, f"{len(content)} bytes")
        kinds = [next(iter(stream)) for stream in seen]
        self.assertEqual(kinds, ["text", "text", "base64", "text", "base64", "base64", "file"])
        self.assertEqual(seen[-1]["file"]["bytes"], len(large))
        self.assertFalse(Path(seen[-1]["file"]["path"]).exists(), "the temporary file is left over")

    def test_files(self) -> None:
        host_file = self.engine.folder / "rows.csv"
        host_file.write_text("a,b")
        self.db.put(host_file, "/tmp/rows.csv")
        self.db.write("/key", b"\xff", mode=0o600, owner="postgres")
        self.assertEqual(self.db.get("/tmp/x"), b"content")
        with self.assertRaisesRegex(e2e.Error, "missing.csv is not a file"):
            self.db.put(self.engine.folder / "missing.csv", "/x")
        content = {"file": {"path": str(host_file), "bytes": 3}}
        first, second = self.engine.of("put")
        self.assertEqual(
            first,
            {"container": "db", "path": "/tmp/rows.csv", "content": content, "mode": 0o644, "deadline_ms": 60_000},
        )
        self.assertEqual((second["content"], second["mode"], second["owner"]), ({"base64": "/w=="}, 0o600, "postgres"))

    def test_waits(self) -> None:
        self.assertEqual(self.db.wait_for_port(5432), 0.25)
        self.db.wait_for_http("/status", deadline=2)
        self.db.wait_for_unit("x.service")
        self.db.wait_for_file("/x")
        self.db.wait_for_command(["true"])
        conditions = [wait["condition"] for wait in self.engine.of("wait")]
        expected = [{"tcp": 5432}, {"http": "/status"}, {"unit": "x.service"}, {"file": "/x"}, {"exec": ["true"]}]
        self.assertEqual(conditions, expected)
        self.assertEqual([wait["deadline_ms"] for wait in self.engine.of("wait")][:2], [60_000, 2000])

    def test_faults_are_healed_at_the_end_of_their_body(self) -> None:
        with self.db.inject("net.delay", delay_ms=50) as fault:
            self.assertEqual(fault.evidence, "no answer from db")
        fault = self.db.inject("node.kill")
        self.assertEqual(fault.heal(), "db answers")
        with self.assertRaises(KeyError), self.db.inject("disk.full", path="/srv/data", free_bytes=4096):
            raise KeyError("x")
        injected = [(inject["container"], inject["fault"]) for inject in self.engine.of("fault.inject")]
        expected = [
            {"name": "net.delay", "delay_ms": 50},
            {"name": "node.kill"},
            {"name": "disk.full", "path": "/srv/data", "free_bytes": 4096},
        ]
        self.assertEqual(injected, [("db", fault) for fault in expected])
        self.assertEqual(self.engine.of("fault.heal"), [{"fault": 3}] * 3)

    def test_a_fault_that_does_not_heal_is_an_error_unless_there_is_a_worse_one(self) -> None:
        def stays(method: str, params: dict[str, Any]) -> Any:
            if method == "fault.heal":
                raise Refusal("Infrastructure", "it stays")
            return plain(method, params)

        self.engine.answer = stays
        with self.assertRaisesRegex(e2e.RequestError, "fault.heal: it stays"), self.db.inject("node.kill"):
            pass
        with self.assertRaises(KeyError), self.db.inject("node.kill"):
            raise KeyError("x")

    def test_an_error_of_the_engine_names_method_container_and_code(self) -> None:
        def late(*_: Any) -> Any:
            raise Refusal("Deadline", "tcp port 5432: connection refused")

        self.engine.answer = late
        with self.assertRaises(e2e.RequestError) as raised:
            self.db.wait_for_port(5432)
        error = raised.exception
        self.assertEqual(str(error), "wait in db: tcp port 5432: connection refused")
        self.assertEqual((error.method, error.container, error.is_deadline), ("wait", "db", True))
        self.assertFalse(error.is_unavailable)

        def down(*_: Any) -> Any:
            raise Refusal("Unavailable", "db is down")

        self.engine.answer = down
        with self.assertRaises(e2e.RequestError) as raised:
            self.db.get("/x")
        self.assertTrue(raised.exception.is_unavailable)


class ConnectionTest(unittest.TestCase):
    def pair(self) -> tuple[e2e._Connection, socket.socket, list[str]]:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        lost: list[str] = []
        return e2e._Connection(ours, lost.append), theirs, lost

    def test_answers_in_any_order_reach_who_asked(self) -> None:
        connection, theirs, _ = self.pair()
        answers: dict[int, Any] = {}

        def ask(number: int) -> None:
            try:
                answers[number] = connection.call("log", {"level": "info", "message": str(number)})
            except e2e.RequestError as error:
                answers[number] = (str(error), error.code)

        asking = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in asking:
            thread.start()
        with theirs.makefile("rb") as lines:
            requests = [json.loads(lines.readline()) for _ in range(8)]
        for request in sorted(requests, key=lambda request: -request["id"]):
            number = request["params"]["message"]
            response: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"], "result": {"of": number}}
            if number == "5":
                response = {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32001, "message": "five"}}
            theirs.sendall(json.dumps(response).encode() + b"\n")
        for thread in asking:
            thread.join()
        expected: dict[int, Any] = {number: {"of": str(number)} for number in range(8)}
        self.assertEqual(answers, {**expected, 5: ("log: five", -32001)})

    def test_an_engine_that_goes_fails_every_open_request_and_every_later_one(self) -> None:
        for last, reason in (
            (b"", "the engine closed the connection"),
            (b'{"jsonrpc":"2.0",', "in the middle of a line"),
            (b"garbage\n", "a line that is no answer"),
            (b"[]\n", "a line that is no answer"),
            (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no JSON"}}\n', "read a request: no JSON"),
        ):
            connection, theirs, lost = self.pair()
            failed: list[str] = []

            def ask(connection: e2e._Connection = connection, failed: list[str] = failed) -> None:
                try:
                    connection.call("log", {})
                except e2e.RequestError as error:
                    failed.append(str(error))

            asking = [threading.Thread(target=ask) for _ in range(3)]
            for thread in asking:
                thread.start()
            with theirs.makefile("rb") as lines:
                for _ in asking:
                    lines.readline()
            theirs.sendall(last)
            theirs.shutdown(socket.SHUT_RDWR)
            for thread in asking:
                thread.join()
            ask()
            self.assertEqual(len(failed), 4)
            for text in failed + lost:
                self.assertIn(reason, text)

    def test_lines_that_cannot_be_sent(self) -> None:
        connection, _, _ = self.pair()
        with self.assertRaisesRegex(e2e.RequestError, "log: the request has .* bytes, a line has at most"):
            connection.call("log", {"message": "x" * e2e.LINE_BYTES_MAX})
        with self.assertRaisesRegex(e2e.RequestError, "exec in db: the request has a text that is no Unicode"):
            connection.call("exec", {"argv": ["\udcff"]}, container="db")

    def test_patience_ends(self) -> None:
        connection, theirs, _ = self.pair()
        with self.assertRaisesRegex(e2e.RequestError, "no answer within 0.02 s"):
            connection.call("log", {}, patience=0.02)

        def answer() -> None:
            with theirs.makefile("rb") as lines:
                for _ in range(2):
                    response = {"jsonrpc": "2.0", "id": json.loads(lines.readline())["id"], "result": {}}
                    theirs.sendall(json.dumps(response).encode() + b"\n")

        answering = threading.Thread(target=answer)
        answering.start()
        self.assertEqual(connection.call("log", {}, patience=60), {}, "the late answer before it is nobody's")
        answering.join()


class ProcessTest(unittest.TestCase):
    """A whole scenario process, as the engine starts it."""

    def play(
        self, body: str, before: str = "", closes_at: str = "", defects_only: bool = False, run: str = "scenario"
    ) -> tuple[int, str, Engine]:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        engine = Engine(Path(folder.name), plain)
        engine.defects_only = defects_only
        scenario = engine.folder / "scenarios/smoke/peer"
        scenario.mkdir(parents=True)
        text = f"import e2e, threading, time\n{before}\ndef scenario(lab):\n{textwrap.indent(body, '    ')}\n"
        (scenario / "main.py").write_text(text + f"e2e.run({run})\n")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(engine.folder / "socket"))
            listener.listen()
            serving = threading.Thread(target=self.serve, args=(listener, engine, closes_at))
            serving.start()
            status, said = self.start(scenario, str(engine.folder / "socket"))
            serving.join()
        self.assertEqual(engine.faults, [])
        return status, said, engine

    def serve(self, listener: socket.socket, engine: Engine, closes_at: str) -> None:
        connection, _ = listener.accept()
        if closes_at:

            def close(method: str, params: dict[str, Any]) -> Any:
                if method == closes_at:
                    connection.shutdown(socket.SHUT_RDWR)
                return plain(method, params)

            engine.answer = close
        engine.serve(connection)

    def start(self, folder: Path, engine_socket: str | None) -> tuple[int, str]:
        environment = {name: value for name, value in os.environ.items() if name != e2e.SOCKET_VARIABLE}
        environment.update(PYTHONPATH=str(HERE), PYTHONDONTWRITEBYTECODE="1")
        if engine_socket is not None:
            environment[e2e.SOCKET_VARIABLE] = engine_socket
        command = [sys.executable, "main.py"]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
        return ended.returncode, ended.stderr

    def test_a_good_scenario(self) -> None:
        status, said, engine = self.play('lab.check_equal(lab.container("db").get("/x"), b"content")\nlab.log("done")')
        self.assertEqual((status, said), (0, ""))
        self.assertEqual([name for name, _ in engine.requests], ["get", "check", "log"])
        self.assertEqual(engine.of("check")[0]["condition"], 'lab.container("db").get("/x") == b"content"')

    def test_the_engine_chooses_between_the_scenario_and_its_probes(self) -> None:
        probes = "def probes(lab):\n    lab.log('the probes')"
        for defects_only, said in ((False, "the scenario"), (True, "the probes")):
            run = "scenario, defects=probes"
            status, _, engine = self.play('lab.log("the scenario")', probes, defects_only=defects_only, run=run)
            self.assertEqual((status, [log["message"] for log in engine.of("log")]), (0, [said]))
        status, _, engine = self.play('lab.log("the scenario")', defects_only=True)
        [abort] = engine.of("abort")
        message = "smoke/peer names no function that tries its known defects alone: write `e2e.run(scenario, defects=probes)`"
        self.assertEqual((status, abort["kind"], abort["message"]), (1, "error", message))
        self.assertEqual(engine.of("log"), [])

    def test_a_failed_check_is_recorded_and_ends_it(self) -> None:
        status, said, engine = self.play(
            'rows = 19_999\nwith lab.step("count"):\n    lab.check_equal(rows, 20_000, "all")'
        )
        self.assertEqual(status, 1)
        expected = {
            "passed": False,
            "condition": "rows == 20_000",
            "values": "rows = 19999",
            "message": "all",
            "file": "scenarios/smoke/peer/main.py",
            "line": 6,
        }
        self.assertEqual(engine.of("check"), [expected])
        self.assertEqual(engine.of("step")[1]["edge"], "failed")
        self.assertEqual(engine.of("abort"), [], "the check says it all")
        self.assertEqual(said, "check failed at scenarios/smoke/peer/main.py:6: rows == 20_000; rows = 19999; all\n")

    def test_an_error_is_told_with_its_causes(self) -> None:
        body = 'try:\n    open("/no/such")\nexcept OSError as error:\n    raise e2e.Error("loading") from error'
        status, said, engine = self.play(body)
        self.assertEqual(status, 1)
        message = "loading\n  caused by: FileNotFoundError: [Errno 2] No such file or directory: '/no/such'"
        abort = {"kind": "error", "message": message, "location": "scenarios/smoke/peer/main.py:7"}
        self.assertEqual(engine.of("abort"), [abort])
        self.assertEqual(said, message + "\n")

    def test_an_uncaught_exception_is_told_with_its_place_in_the_scenario(self) -> None:
        status, said, engine = self.play('with lab.measure("worse"):\n    json.loads("{")', before="import json")
        self.assertEqual(status, 1)
        [abort] = engine.of("abort")
        self.assertEqual((abort["kind"], abort["location"]), ("panic", "scenarios/smoke/peer/main.py:5"))
        self.assertTrue(abort["message"].startswith("JSONDecodeError: Expecting"), abort)
        self.assertEqual([end["succeeded"] for end in engine.of("measure.end")], [False])
        self.assertIn("Traceback", said)

    def test_an_exception_in_a_thread_counts(self) -> None:
        body = 'for word in ("one", "two"):\n    thread = threading.Thread(target=int, args=(word,))\n'
        status, _, engine = self.play(body + "    thread.start()\n    thread.join()")
        self.assertEqual(status, 1)
        [abort] = engine.of("abort")
        self.assertEqual((abort["kind"], "'one'" in abort["message"]), ("panic", True), abort)

    def test_a_thread_that_still_runs_fails_it_and_does_not_hold_the_end(self) -> None:
        begin = 'threading.Thread(target=time.sleep, args=(3600,), name="sleeper").start()\n'
        for body, expected in (("", "these threads still run: sleeper"), ('raise ValueError("x")', "ValueError: x")):
            status, said, engine = self.play(begin + body)
            self.assertEqual((status, expected in said), (1, True), said)
            self.assertEqual([expected in abort["message"] for abort in engine.of("abort")], [True])

    def test_a_check_in_a_thread_that_outlives_the_scenario_counts(self) -> None:
        body = 'def late() -> None:\n    time.sleep(0.3)\n    lab.check(1 == 2)\nthreading.Thread(target=late).start()'
        status, _, engine = self.play(body)
        self.assertEqual((status, [check["passed"] for check in engine.of("check")]), (1, [False]))
        self.assertEqual(self.play(body.replace("1 == 2", "1 == 1"))[0], 0)

    def test_a_thread_without_a_line_of_the_scenario_has_no_place(self) -> None:
        body = 'thread = threading.Thread(target=lab.log, args=("x",))\nthread.start()\nthread.join()\nlab.log("y")'
        _, _, engine = self.play(body)
        self.assertEqual(engine.places, [("log", None), ("log", "scenarios/smoke/peer/main.py:7")])

    def test_a_signal_writes_the_stack_of_a_thread_also_from_c_code(self) -> None:
        waiting = "import os, signal\ndef kill():\n    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)\n"
        body = "done = threading.Event()\nthreading.Timer(0.2, lambda: (kill(), done.set())).start()\n"
        body += "done.wait()\nlab.log(open(lab._welcome['stack_file']).read())"
        status, said, engine = self.play(body, before=waiting)
        self.assertEqual((status, said), (0, ""))
        [log] = engine.of("log")
        self.assertIn('main.py", line 9 in scenario', log["message"])

    def test_threads_that_end_amid_their_signals_do_not_crash_it(self) -> None:
        before = "import os, signal\ndef kill(depth):\n    return kill(depth - 1) if depth else os.kill(os.getpid(), 10)\n"
        body = "for _ in range(1000):\n    threads = [threading.Thread(target=kill, args=(n,)) for n in (3, 1, 8, 5)]\n"
        body += "    for thread in threads:\n        thread.start()\n    for thread in threads:\n        thread.join()\n"
        body += "lab.log('lives')"
        status, said, _ = self.play(body, before=before)
        self.assertEqual((status, said), (0, ""))

    def test_a_scenario_keeps_its_own_handler_of_the_signal(self) -> None:
        before = "import os, signal\nsignal.signal(signal.SIGUSR1, lambda *_: print('mine', flush=True))\n"
        status, said, engine = self.play("os.kill(os.getpid(), signal.SIGUSR1)\nlab.log('x')", before=before)
        self.assertEqual((status, said), (0, ""))
        self.assertFalse((engine.folder / "stacks").exists())

    def test_its_own_exit_status_is_kept_but_for_0(self) -> None:
        self.assertEqual(self.play("raise SystemExit(7)")[0], 7)
        for body in ("sys.exit(0)", "try:\n    int('x')\nfinally:\n    sys.exit(0)"):
            status, _, engine = self.play(body, before="import sys")
            [abort] = engine.of("abort")
            self.assertEqual((status, "sys.exit(0)" in abort["message"]), (1, True), abort)
        self.assertIn("ValueError", abort["message"], "what it covered is told")

    def test_a_body_that_never_runs_is_no_success(self) -> None:
        for function in ("async def other(lab): lab.check(False)", "def other(lab):\n    lab.check(False)\n    yield"):
            status, _, engine = self.play("return other(lab)", before=function)
            [abort] = engine.of("abort")
            self.assertEqual((status, "its body never ran" in abort["message"]), (1, True), abort)

    def test_a_lost_engine_ends_it(self) -> None:
        status, said, _ = self.play('lab.log("the last words")\ntime.sleep(3600)', closes_at="log")
        self.assertEqual(status, 1)
        self.assertIn("the engine is gone: the engine closed the connection", said)

    def test_without_an_engine_it_says_how_to_run_it(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            scenario = Path(folder) / "inventory"
            scenario.mkdir()
            (scenario / "main.py").write_text("import e2e\ne2e.run(print)\n")
            status, said = self.start(scenario, None)
            self.assertEqual(status, 2)
            self.assertIn("run it with `cargo xtask e2e inventory`", said)
            status, said = self.start(scenario, str(Path(folder) / "missing"))
            self.assertEqual(status, 1)
            self.assertIn("the engine did not accept this scenario: FileNotFoundError", said)


class ContractTest(unittest.TestCase):
    def test_constants_are_the_contracts(self) -> None:
        constants = (
            e2e.PROTOCOL_VERSION,
            e2e.SOCKET_VARIABLE,
            e2e.PATIENCE_VARIABLE,
            e2e.LINE_BYTES_MAX,
            e2e.STREAM_BYTES_MAX,
        )
        names = ("protocol_version", "socket_variable", "patience_variable", "line_bytes_max", "stream_bytes_max")
        self.assertEqual(constants, tuple(REFERENCE[name] for name in names))
        named = ("Infrastructure", "Deadline", "Interrupted", "Unavailable")
        codes = [REFERENCE["error_codes"][name]["code"] for name in named]
        ours = [e2e.CODE_INFRASTRUCTURE, e2e.CODE_DEADLINE, e2e.CODE_INTERRUPTED, e2e.CODE_UNAVAILABLE]
        self.assertEqual(ours, codes)

    def test_every_method_is_asked_by_name_and_no_other(self) -> None:
        names = set()
        for node in ast.walk(ast.parse((HERE / "e2e.py").read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("call", "_ask")
            ):
                [name] = [word.value for word in node.args[:1] if isinstance(word, ast.Constant)] or [None]
                names.update([name] if isinstance(name, str) else [])
        self.assertEqual(names, set(REFERENCE["methods"]))

    def test_what_differs_from_the_reference_is_seen(self) -> None:
        exec_params = REFERENCE["methods"]["exec"]["params"]
        good = {
            "container": "db",
            "argv": ["true"],
            "deadline_ms": 1,
            "environment": [["A", "b"]],
            "stdin": {"text": ""},
        }
        self.assertEqual(faults(good, exec_params), [])
        for change in (
            {"argv": "true"},
            {"deadline_ms": 1.5},
            {"deadline_ms": True},
            {"deadline_ms": -1},
            {"dir": "/"},
            {"environment": [["A"]]},
            {"environment": [["A", 1]]},
            {"stdin": {"bytes": ""}},
            {"stdin": {"text": "", "base64": ""}},
        ):
            self.assertNotEqual(faults({**good, **change}, exec_params), [], change)
        self.assertEqual(faults({}, exec_params)[0], ".container is missing")
        self.assertNotEqual(faults({"name": "net.dely"}, {"$ref": "#/$defs/Fault"}), [])

    def test_it_is_python_3_9_and_needs_no_package(self) -> None:
        tree = ast.parse((HERE / "e2e.py").read_text(encoding="utf-8"), feature_version=(3, 9))
        imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        imported += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
        imported = sorted({(name or "").partition(".")[0] for name in imported})
        own = getattr(sys, "stdlib_module_names", imported)  # Python 3.10 is the first that knows them
        self.assertEqual([name for name in imported if name not in own], [])


if __name__ == "__main__":
    unittest.main()
