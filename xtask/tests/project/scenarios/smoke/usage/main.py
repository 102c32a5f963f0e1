"""Work on processors, disks and networks whose amount is known, each as an operation of its own."""

import e2e

MEBIBYTE = 1 << 20


def scenario(lab: e2e.Lab) -> None:
    a, b = lab.container("a"), lab.container("b")

    def work() -> None:
        """Its program says itself how much processor time it took."""
        times = a.sh("time -p sh -c 'head -c 8388608 /dev/zero | sha256sum' 2>&1").success().stdout_text
        seconds = {line.split()[0]: float(line.split()[1]) for line in times.splitlines() if line[:4] in ("user", "sys ")}
        lab.metric("work_cpu", 1000 * (seconds["user"] + seconds["sys"]), "ms", "lower")

    lab.measure_n("work", 3, work)
    with lab.measure("write"):
        a.exec(["dd", "if=/dev/zero", "of=/data/written", "bs=1M", "count=4", "conv=fsync"]).success()
    with lab.measure("fill_memory"):
        a.sh("mkdir -p /tmp && dd if=/dev/zero of=/tmp/kept bs=1M count=12").success()
    b.sh("mkdir -p /tmp/pages && head -c 2097152 /dev/zero > /tmp/pages/large && httpd -p 80 -h /tmp/pages").success()
    b.wait_for_port(80)
    with lab.measure("fetch"):
        a.exec(["wget", "-q", "-O", "/dev/null", "http://b/large"]).success()
    with lab.measure("outer"):
        lab.measure_n("inner", 2, lambda: a.exec(["true"]).success())
    with lab.measure("restart"), b.inject("node.kill"):
        pass
    with lab.measure("after"):
        b.sh("head -c 1048576 /dev/zero | sha256sum").success()


if __name__ == "__main__":
    e2e.run(scenario)
