"""Writes to a disk as much as its case says."""

import e2e


def scenario(lab: e2e.Lab) -> None:
    count = lab.param("mebibytes", int)
    a = lab.container("a")
    a.exec(["dd", "if=/dev/zero", "of=/data/written", "bs=1M", f"count={count}", "conv=fsync"]).success()
    if lab.case == "beyond_and_wrong":
        a.exec(["false"]).success()


if __name__ == "__main__":
    e2e.run(scenario)
