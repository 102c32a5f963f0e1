"""A machine reads the file that it was given. Tell your own story here: who does what, and what must come of it."""

import e2e


def scenario(lab: e2e.Lab) -> None:
    machine = lab.container("{container}")

    # A step is a stretch with a name: the log has when it began and how it ended.
    with lab.step("lay the fixture out"):
        machine.put(lab.fixture("greeting.txt"), "/tmp/greeting.txt")

    # An operation is measured: its samples go to performance.json. The name is snake_case, unique in the scenario.
    with lab.measure("read_greeting"):
        read = machine.exec(["cat", "/tmp/greeting.txt"]).success()

    # A check compares with what is known from elsewhere. When it fails, the run shows both values and this line.
    expected = lab.fixture("greeting.txt").read_text()
    lab.check_equal(read.stdout_text, expected, "the machine has the fixture, byte for byte")


if __name__ == "__main__":
    e2e.run(scenario)
