"""Reads a page of b from a again and again, whatever is done to both: chaos and history against a real engine."""

import e2e

PAGE = "a page of b\n"


def scenario(lab: e2e.Lab) -> None:
    a, b = lab.container("a"), lab.container("b")
    b.write("/tmp/pages/page.txt", PAGE)
    b.exec(["httpd", "-p", "80", "-h", "/tmp/pages"]).success()
    b.wait_for_port(80, deadline=10)
    wrong = lab.case == "does_not_hold"
    pages = 0
    with lab.chaos() as chaos:
        chaos.always("what b serves is its page", lambda: read(a) == PAGE and not wrong)
        while pages < 3 or chaos.lasts():
            try:
                with lab.invoke("reader", "read") as reading:
                    reading.ok(read(a))
            except e2e.Error as error:
                lab.log(f"no page: {error}", level="debug")
            else:
                pages += 1
    lab.sometimes("a page was read", pages > 0)
    lab.at_end("a reads from b again", lambda: read(a) == PAGE)
    lab.artifact("pages.txt", str(pages))


def read(a: e2e.Container) -> str:
    return a.exec(["wget", "-q", "-O", "-", "http://b/page.txt"], deadline=0.5).success().stdout_text


if __name__ == "__main__":
    e2e.run(scenario)
