#!/usr/bin/env python3
"""Ends badly in the way its case names."""

import sys
import threading

import e2e


def scenario(lab: e2e.Lab) -> None:
    a = lab.container("a")
    with lab.step("misbehave"):
        if lab.case == "check_fails":
            rows = int(a.exec(["echo", "19999"]).success().stdout)
            lab.check_equal(rows, 20_000, "every row was loaded")
        elif lab.case == "error":
            a.sh("echo half of it; echo 'no such table' >&2; exit 3").success()
        elif lab.case == "exception":
            lab.log({}["no such key"])
        elif lab.case == "exception_in_a_thread":
            thread = threading.Thread(target=int, args=("no number",))
            thread.start()
            thread.join()
        else:
            sys.exit(7)


if __name__ == "__main__":
    e2e.run(scenario)
