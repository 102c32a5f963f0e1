"""Does the two kinds of work, as often as the engine wants."""

import e2e


def scenario(lab: e2e.Lab) -> None:
    work = lab.container("task")
    for kind in ("hash", "count"):
        lab.measure_n(kind, 20, lambda: work.exec(["/bin/task", kind]).success())


if __name__ == "__main__":
    e2e.run(scenario)
