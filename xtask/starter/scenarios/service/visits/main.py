"""A client visits web, which counts on cache. Cache is cut off and killed: web says so in time, and no visit is lost."""

from __future__ import annotations

import e2e


def scenario(lab: e2e.Lab) -> None:
    cache, client = lab.container("cache"), lab.container("client")

    # A step is a stretch with a name: the log has when it began and how it ended.
    with lab.step("web shows its page and counts visits"):
        status, page = get(client, "/")
        # When a check fails, the run shows its condition, these values and this line.
        lab.check(status == 200 and "visits" in page, "the page is served", status=status, page=page)
        lab.check_equal([visit(client) for _ in range(3)], [1, 2, 3], "each visit is counted once, on cache")

    # A measured operation: its samples go to performance.json, and runs can be compared by them.
    lab.measure_n("visit", 20, lambda: visit(client))

    with lab.step("cache is cut off"):
        # The fault is in effect when `inject` returns, and has recovered when the block ends: the engine has verified both.
        with cache.inject("net.isolate"):
            lab.check_equal(visit(client), None, "web says that it cannot count, and does not hang")
            status, _ = get(client, "/")
            lab.check_equal(status, 200, "the page needs no cache")
        lab.eventually("visits are counted again", 10, lambda: visit(client) is not None)

    with lab.step("redis is killed"):
        before = counted(cache)
        with cache.inject("process.kill", command="redis-server"):
            lab.eventually("visits are counted again", 10, lambda: visit(client) is not None)
        after = counted(cache)
        lab.check(after > before, "redis has kept what it counted before", before=before, after=after)

    # With --chaos, the engine breaks meanwhile what [chaos] in scenario.toml allows. Without, the body just runs.
    numbers: list[int] = []
    with lab.chaos() as chaos:
        while len(numbers) < 10 or chaos.lasts():
            # An answer that does not come is neither a success nor a failure: it stays open in history.jsonl.
            try:
                with lab.invoke("client", "visit") as visiting:
                    number = visit(client)
                    if number is not None:
                        visiting.ok(number)
                        numbers.append(number)
            except e2e.Error as error:
                lab.log(f"no answer: {error}", level="debug")
    lab.sometimes("visits were counted while faults were played", len(numbers) > 0)
    lab.at_end("no number was given twice", lambda: len(set(numbers)) == len(numbers))
    lab.at_end("no visit that was acknowledged is lost", lambda: counted(cache) >= max(numbers))


def get(client: e2e.Container, path: str) -> tuple[int, str]:
    """What web answers: the status and the text. No answer at all is an error."""
    words = ["curl", "--silent", "--show-error", "--max-time", "4", "--write-out", "\n%{http_code}", f"http://web{path}"]
    text, _, status = client.exec(words).success().stdout_text.rpartition("\n")
    return int(status), text.strip()


def visit(client: e2e.Container) -> int | None:
    """The number that a visit got; None where web says that it cannot count."""
    status, text = get(client, "/visits")
    if status == 503:
        return None
    if status != 200:
        raise e2e.Error(f"/visits answers with status {status}: {text}")
    return int(text)


def counted(cache: e2e.Container) -> int:
    """The number of visits, as redis itself has it."""
    return int(cache.exec(["redis-cli", "get", "visits"]).success().stdout_text)


if __name__ == "__main__":
    e2e.run(scenario)
