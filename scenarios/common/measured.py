"""Operations of Mancer on app whose time a scenario in Python measures; `measured.rs` is the same for scenarios in Rust."""

import json
from pathlib import Path

import e2e

#: Script for bash, which starts sooner than Python, that sends `$1` to the port of `operations.py` and prints the answer.
REQUEST = r"""exec 3<> /dev/tcp/127.0.0.1/7070 && printf '%s\n' "$1" >&3 && exec cat <&3"""
#: Type=notify: systemd-run waits until the program is ready.
START = ("--quiet", "--unit=measured", "--uid=mancer", "--setenv=PYTHONPATH", "--property=Type=notify")
STREAMS = ("--property=StandardOutput=file:/tmp/measured.log", "--property=StandardError=journal")


class Operations:
    """The scenario's `measured.py`, started and waiting for requests."""

    def __init__(self, lab: e2e.Lab, app: e2e.Container, folder: str):
        self.app = app
        app.put(Path(__file__).with_name("operations.py"), f"{folder}/operations.py")
        app.put(lab.fixture("measured.py"), f"{folder}/measured.py")
        app.exec(["systemd-run", *START, *STREAMS, "python3", f"{folder}/measured.py"]).success()

    def perform(self, name: str, *arguments):
        """Performs an operation and returns what it returned."""
        answer = self.app.exec(["bash", "-c", REQUEST, "bash", json.dumps([name, *arguments])]).success()
        answer = json.loads(answer.stdout_text)
        if "failed" in answer:
            raise e2e.Error(f"the operation {name} failed on app: {answer['failed']}")
        return answer["returned"]
