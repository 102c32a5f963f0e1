"""What programs and three_machines do in Rust, in short and in Python: the client against a real engine."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import e2e


def scenario(lab: e2e.Lab) -> None:
    a, b = lab.container("a"), lab.container("b")
    with lab.step("programs"):
        programs(lab, a)
    with lab.step("files of any bytes"):
        files(lab, a)
    with lab.step("a reads a page of b"):
        page(lab, a, b)
    with lab.step("requests overlap"):
        requests_overlap(lab, a)
    with lab.step("faults and known defects"):
        faults_and_defects(lab, a, b)
    with lab.step("this process is what scenario.toml says"):
        # The client is the engine's own, below the run's folder; what runs is a process of the scenario's folder.
        lab.check(os.path.dirname(e2e.__file__).endswith("/sdk"), file=e2e.__file__)
        lab.check_equal(os.path.realpath(os.getcwd()), os.path.realpath(os.path.dirname(__file__)))
    lab.artifact("case.json", json.dumps({"scenario": lab.scenario, "case": lab.case}))
    lab.log("through", level="debug")


def programs(lab, a):
    finished = a.sh("printf out; printf err >&2; exit 3")
    lab.check(finished.status == 3 and not finished.timed_out, "its own status", status=finished.status)
    lab.check_equal((finished.stdout_text, finished.stderr_text), ("out", "err"))
    who = a.sh('id -un; printf %s "$GREETING"', user="user", env={"GREETING": "it's me"}).success()
    lab.check_equal(who.stdout_text, "user\nit's me")
    every_byte = bytes(range(256))
    lab.check_equal(a.exec(["cat"], stdin=every_byte).stdout, every_byte)
    lab.check(a.exec(["sleep", "54321"], deadline=0.3).timed_out, "a deadline kills it")
    try:
        a.exec(["true"], user="nobody-here")
        refused = ""
    except e2e.RequestError as error:
        refused = str(error)
    lab.check(
        refused.startswith("exec in a: ") and "nobody-here" in refused,
        "an error names what it is about",
        refused=refused,
    )


def files(lab, a):
    large = bytes(number % 251 for number in range(17 << 20))
    a.write("/tmp/new/large", large, mode=0o640, owner="user")
    lab.check_equal(a.exec(["stat", "-c", "%a %U %s", "/tmp/new/large"]).stdout_text, f"640 user {len(large)}\n")
    lab.check(a.get("/tmp/new/large") == large, "17 MiB there and back as files")
    lab.check(a.exec(["cat"], stdin=large).stdout == large, "17 MiB there and back as streams")
    a.exec(["rm", "/tmp/new/large"]).success()


def page(lab, a, b):
    b.put(lab.fixture("page.txt"), "/tmp/pages/page.txt")
    b.exec(["httpd", "-p", "80", "-h", "/tmp/pages"]).success()
    b.wait_for_port(80, deadline=10)
    b.wait_for_http("/page.txt")
    with lab.measure("first_page"):
        read = a.exec(["wget", "-q", "-O", "-", "http://b/page.txt"]).success()
    lab.check_equal(read.stdout_text, "a page of b\n")
    lab.measure_n(
        "page",
        lab.param("repetitions", int),
        lambda: a.exec(["wget", "-q", "-O", "/dev/null", "http://b/page.txt"]).success(),
    )


def requests_overlap(lab, a):
    """Each of the two waits for the other: one after the other they would never end."""

    def meet(mine, other):
        a.exec(["touch", f"/tmp/{mine}"]).success()
        return a.wait_for_file(f"/tmp/{other}", deadline=10)

    with ThreadPoolExecutor() as pool:
        both = [pool.submit(meet, "romeo", "juliet"), pool.submit(meet, "juliet", "romeo")]
        lab.check(all(met.result() < 10 for met in both), "they met")
    lab.eventually("the file is there", 10, lambda: a.exec(["test", "-e", "/tmp/romeo"]).status == 0)


def faults_and_defects(lab, a, b):
    with b.inject("node.freeze") as frozen:
        lab.check("did nothing" in frozen.evidence, "what was observed", evidence=frozen.evidence)
        try:
            b.exec(["true"], deadline=5)
            unavailable = False
        except e2e.RequestError as error:
            unavailable = error.is_unavailable
        lab.check(unavailable, "no program runs in a frozen machine")
    lab.check_equal(b.exec(["hostname"]).stdout_text, "b\n")
    with lab.known_defect("selftest-1/python", failing_with="1 + 1 == 3"):
        lab.check_equal(1 + 1, 3)


if __name__ == "__main__":
    e2e.run(scenario)
