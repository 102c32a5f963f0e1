"""Expected values of the facts of logs.py, records.py and system.py; some depend on the machines."""

import re

import e2e

#: Expected facts of records.py.
RECORDS = {
    "a runner that goes to worker and comes back": ["worker\n", True, "app\n", False, None],
    "the folder of a runner that is given none": True,
    "parameters of a context, and of its copy": [
        ["/etc", [1], ["first"]],
        ["/usr", [1, 2], ["first", "second"]],
        "none",
    ],
    "parameters of one execution": [5, None],
    "a result as text, its rows and its format": ["app\n", "app", "list", True],
    "the steps of a chain in its history": [
        [["echo one", "CustomCommand", 0], ["cat", "CustomCommand", 0]],
        "cat",
        2,
        True,
    ],
    "a history without steps": [None, 0, True, []],
    "a result of one's own, with a step that failed": ["retry", "Retry", 1, False, ["x"], {"tries": 2}],
    "a step of a history, written and read": [True, "echo x", [{"line": "x"}], "list"],
    "what formats can be converted, and the name of none": [True, None],
    "an entry of a cache with its time and its words": [
        "kept\n",
        {"command": "echo kept", "metadata": {"of": "main"}},
        None,
        True,
        [True, "kept\n", None, {"command": "echo kept", "metadata": {"of": "main"}}],
    ],
    "a cache of a runner that is off: what it counts and gives": [False, 0, 0, None],
    "the thread of a cache that refreshes itself, on and off": [True, True, False, False, True, 0.02, False],
    "lines of commands of one's own: options, parameters, packages": [
        "tool add -v --long name --size 3 --dry",
        "tool add -v --long -q name --size 3 --dry",
        "Linux\n",
    ],
    "a chain and a pipe of commands of the application": [[2, "app\n"], [2, "active\n"]],
    "live output of a command, its errors and its input": [
        3,
        "got input\n",
        "wrong\n",
        "got input\nLinux\n",
        "wrong\n",
    ],
    "command lines of a backend, carried out": [
        "date -u --rfc-3339=seconds -d '2001-02-03 04:05:06'",
        "2001-02-03 04:05:06+00:00\n",
        "1970-01-02\n",
    ],
    "what a backend makes of a program's output": [[True, ["a", "b"], None, 0], [False, ["a", "b"], "wrong", 3]],
    "the output of a command without a reader of its own": ["1+2\n", ["1+2\n"], "seq --separator=+ 2"],
    "a file, by the cat of the system": [
        "one\nTwo\n\ntwo.\n",
        [
            {"line_number": 1, "text": "one"},
            {"line_number": 2, "text": "Two"},
            {"line_number": 3, "text": ""},
            {"line_number": 4, "text": "two."},
        ],
        ["1", "one"],
        1,
        False,
    ],
    "lines that match, by the grep of the system": [
        [{"line": "one", "text": "one"}, {"line": "Two", "text": "Two"}, {"line": "two.", "text": "two."}],
        0,
        [],
        1,
    ],
    "files, by the find of the system": [
        [
            ["a.txt", False, True, False, "txt"],
            ["found", True, False, False, ""],
            ["inner", True, False, False, ""],
            ["link", False, True, True, ""],
        ],
        [True, True, True, True],
        1,
    ],
    "a long listing, by the ls of the system": [
        ["-rwxr-x---", "1", "mancer", "5", "two words", False, False, True],
        ["inner", True],
    ],
    "options of grep, head and tail: extended patterns, names of files, what comes later": [
        "one\ntwo.\n",
        "one\none\n",
        "==> lines <==\ntwo.\n",
        "first\nsecond\n",
    ],
    "lines of a file, row by row": [
        [[1, "one"], [2, "Two"], [3, ""], [4, "two."]],
        [[1, "one"], [2, "Two"], [3, ""], [4, "two."]],
        [[1, "one"], [2, "Two"], [3, ""], [4, "two."]],
    ],
    "this process, as ps aux and the rows of ps have it": [
        ["mancer", ["python3", "/srv/commands/records.py"]],
        {"user": "mancer", "command": "python3"},
    ],
    "mount points, as df lists them": ["df -h", True, True],
    "the domain of app": [True, 0],
    "lines of cp with a parameter of one's own, and of cd": [["cp", "--backup=numbered", "a", "b"], "/etc/ssh"],
    "versions in what tools say of themselves": [
        ["tool v9.1", True],
        ["tool v1.2.3", True],
        ["tool vnieznana", True],
        ["tool vnieznana", True],
    ],
    "versions that a registry allows, and one that it has seen": [True, [True, True, True, False], ["2", None]],
    "versions that are allowed from now on, and the file that keeps them": [
        ["8.30", "8.31", "8.32", "9.0", "9.1", "0.1"],
        ["0.2", "0.3"],
        ["0.1", "8.30", "8.31", "8.32", "9.0", "9.1"],
        ["0.2", "0.3"],
        True,
    ],
    "rows of df, by the version of df": [
        [
            [
                {
                    "filesystem": "/dev/a",
                    "size": "100",
                    "used": "25",
                    "available": "75",
                    "use_percent": "25",
                    "mount_point": "/mnt",
                    "parser_version": "2.x",
                }
            ],
            [
                {
                    "filesystem": "/dev/a",
                    "1k_blocks": 100,
                    "used": 25,
                    "available": 75,
                    "usepercent": 25,
                    "mounted": "/mnt",
                    "parser_version": "8.x",
                }
            ],
            [
                {
                    "filesystem": "/dev/a",
                    "1k_blocks": 100,
                    "used": 25,
                    "available": 75,
                    "usepercent": 25,
                    "mounted": "/mnt",
                    "parser_version": "9.x",
                }
            ],
            [
                {
                    "filesystem": "/dev/a",
                    "1k_blocks": 100,
                    "used": 25,
                    "available": 75,
                    "usepercent": 25,
                    "mounted": "/mnt",
                }
            ],
            [
                {
                    "filesystem": "/dev/a",
                    "1k_blocks": 100,
                    "used": 25,
                    "available": 75,
                    "usepercent": 25,
                    "mounted": "/mnt",
                }
            ],
        ],
        ["_parse_output_v2", "_parse_output_v8", "_parse_output_v9", None],
    ],
    "whether this is a version in development": [False, True, True, False],
    "settings without a file, with a damaged one, and kept anew": [
        True,
        ["4.7.0", "4.8.0", "4.9.0"],
        ["4.7.0", "4.8.0", "4.9.0"],
        {"shop": {"rows": 7}},
        ["0.1", "0.2"],
        7,
        [],
        ["4.7.0", "4.8.0", "4.9.0"],
    ],
    "temporary files: with a text and without one": [["mine_.ini", "mancer_.tmp"], ["zażółć\n", ""]],
    "files of the manager: read, written, described and listed": [
        [True, False],
        ["zażółć\n", None],
        ["inner/a.ini", "ini", 11, "zażółć\n"],
        [True, None],
        ["js", "unknown"],
        [["config.js", "inner", "plain"], ["config.js"]],
        [],
    ],
    "files of the manager, compared, and JSON, set out": [
        [[False, []], [True, ["- b", "+ c"]], [True, ["Błąd odczytu jednego z plików"]]],
        '{\n    "a": [\n        1\n    ]\n}',
        "{a}",
    ],
    "a unit as a dictionary, and back": [True, "unknown"],
    "the result of a synchronization as a dictionary": [
        True,
        {
            "task_name": "nightly",
            "target_profile": "worker",
            "success": False,
            "error_message": "no",
            "backup_path": "/b",
        },
    ],
}
#: Expected facts of logs.py.
LOGS = {
    "what the standard backend writes, by its level": [
        [
            ["DEBUG", "of debug"],
            ["INFO", "of info"],
            ["WARNING", "of warning"],
            ["ERROR", "of error"],
            ["CRITICAL", "of critical"],
            ["CRITICAL", "by its number"],
        ],
        [["ERROR", "of error"], ["CRITICAL", "of critical"], ["CRITICAL", "by its number"]],
    ],
    "time and context of an entry, and inputs, outputs and chains": [
        4,
        [
            "[WARNING] with context",
            "Context: {'host': 'db'}",
            "[DEBUG] ► INPUT [cat]:",
            "['a']",
            "[DEBUG] ◄ OUTPUT [cat]:",
            "['b']",
            "[INFO] Command chain:",
            "echo (EchoCommand)",
            " │ cat (CatCommand)",
            " → id (CustomCommand)",
        ],
    ],
    "an entry on the console, in a format of one's own": "INFO: shown\n",
    "what the icecream backend writes and prints, by its level": [
        [["WARNING", "of warning"], ["ERROR", "of error"], ["CRITICAL", "of critical"]],
        True,
        [
            ["[WARNING]", "of warning"],
            ["[ERROR]", "of error"],
            ["[CRITICAL]", "of critical"],
            ["➡️ INPUT [cat]"],
            ["⬅️ OUTPUT [cat]"],
        ],
        True,
    ],
    "what the icecream backend writes of inputs, outputs and chains": [
        [
            "Command input [cat]: ['a']",
            "Command output [cat]: ['b']",
            "Command chain:",
            "echo (EchoCommand)",
            " │ cat (CatCommand)",
            " → id (CustomCommand)",
        ],
        4,
    ],
    "what the logger writes, by names of levels": [
        [
            ["DEBUG", "of debug"],
            ["INFO", "of info"],
            ["WARNING", "of warning"],
            ["ERROR", "of error"],
            ["CRITICAL", "of critical"],
        ],
        [["ERROR", "of error"], ["CRITICAL", "of critical"]],
    ],
    "the one logger and its backend": [True, True, True, "StandardBackend", "IcecreamBackend"],
    "a logger that is used before it is set up": [
        "[INFO] Command started: own line",
        "[INFO] Command FAILED: own (exit: 3)",
        "[ERROR] Command error: wrong",
    ],
    "start and end of a command in the log and in the history": [
        False,
        ["tool", "tool --now", {"rows": 5}],
        [True, False, 7, True],
        ["Command started: tool --now", "Command FAILED: tool (exit: 7) in time", "Command error: wrong"],
    ],
    "inputs and outputs of the commands of a pipe, kept and forgotten": [
        [{"input": ["a"], "output": ["b"]}, {}, ["cat", "wc"]],
        {},
        [["INPUT", "cat", "['a']"], ["OUTPUT", "cat", "['b']"], ["OUTPUT", "wc", "[1]"]],
    ],
    "a history, cut short, written to a file and forgotten": [[[1, 0], [0]], [], [0, 1, 0], True],
    "what a runner logs of a command, of its folder and of its machine": [
        ["/etc", 5, None, None],
        True,
        ["Execution mode set to local", "Remote execution set to db:2222"],
    ],
    "what a command logs of its input, and of its end by an exception": [
        {"input": [{"line": "x"}], "output": [{"line": "x"}]},
        {"output": [{"line": "x"}]},
        "no such thing",
        False,
        -1,
    ],
    "a runner that sets up the logger": ["", ["INFO", "Command started: echo told"]],
    "the structure of a chain in the log": "Command chain:\necho (EchoCommand)\n │ cat (CatCommand)\n → hostname (HostnameCommand)\n",
    "the older service: one instance, its levels, its history and its files": [
        True,
        [["WARNING", "[mancer] this one"], ["ERROR", "[mancer] Command error: wrong"]],
        [["left line", False], ["own line", True]],
        [2, [], [4]],
        [],
    ],
    "profiles of the inspector's program: added, listed, removed": [
        [
            [0, ["Brak zapisanych profili"]],
            [0, ["Profil 'shop' został zapisany"]],
            [0, ["Profil 'door' został zapisany"]],
            [0, ["Dostępne profile połączeń:", "1. shop (mancer@worker)", "2. door (second@db)"]],
            [0, ["Profil 'door' został usunięty"]],
            [1, ["Błąd: Profil 'door' nie istnieje lub nie może zostać usunięty"]],
            [0, ["Dostępne profile połączeń:", "1. shop (mancer@worker)"]],
            [1, ["Błąd: Profil 'no-such' nie istnieje"]],
        ],
        {"shop": {"hostname": "worker", "username": "mancer", "password": None}},
        [[1, True], [1, True]],
    ],
    "units of worker, by the inspector's program: its report and its summary": [
        0,
        True,
        True,
        3,
        "systemd_inspector_report_worker_",
        "0",
    ],
    "profiles of the inspector itself, and what it makes of a listing": [
        [
            [None, None, None],
            [],
            False,
            True,
            ["worker", "mancer", None],
            ["worker", "mancer", None],
            [None, None, None],
            ["shop"],
            False,
            True,
            [],
        ],
        {"total": 3, "active": 1, "inactive": 1, "failed": 1},
        ["b@1.timer - failed"],
        {"dimark": ["dimark_c.mount - inactive"], "user": ["b@1.timer - failed"]},
        [
            "Raport jednostek systemd dla worker",
            "PODSUMOWANIE:",
            "Całkowita liczba jednostek: 3",
            "Aktywne: 1",
            "Nieaktywne: 1",
            "Uszkodzone: 1",
            "JEDNOSTKI DIMARK:",
            "dimark_c.mount - inactive",
            "JEDNOSTKI UŻYTKOWNIKA:",
            "b@1.timer - failed",
            "PODZIAŁ WEDŁUG TYPU:",
            "SERVICE:",
            "a.service - active",
            "TIMER:",
            "b@1.timer - failed",
            "MOUNT:",
            "dimark_c.mount - inactive",
            "PODZIAŁ WEDŁUG STANU:",
            "ACTIVE:",
            "a.service - active",
            "INACTIVE:",
            "dimark_c.mount - inactive",
            "FAILED:",
            "b@1.timer - failed",
        ],
    ],
}
#: Expected facts of system.py.
SYSTEM = {
    "a package, installed, asked for, removed and purged, and the cache, cleaned: what dpkg and the files say after each": [
        True,
        ["", False, False, True],
        [True, "ii", True, True, True],
        [True, "rc", False, True, True],
        [True, "", False, False, True],
        [True, "", False, False, False],
        ["Polecenia dostarczone przez pakiet facts-tool:", "facts-tool"],
        ["facts-tool", "1.5"],
        [[False, "Pakiet facts-tool nie jest zainstalowany\n"], [True, "nie zainstalowany\n"]],
    ],
    "what apt would do, and what it can upgrade": [[True, True, True, True, True], True],
    "lines of apt with each of its options": [
        "apt dist-upgrade -y --no-install-suggests --no-install-recommends --download-only --force-yes",
        "apt clean",
    ],
    "when apt was updated, and whether that is due": [
        ["2001-02-03T04:05:06", "TRUE", "FALSE", True],
        ["2001-02-03T04:05:06", "FALSE", "FALSE", True],
        86400,
        ["86400\n", "TRUE (ostatnia aktualizacja: 1970-01-02 00:00:00"],
    ],
    "a unit of app, as the commands of the application leave it": [
        [
            [True, "active", "disabled", False],
            [True, "active", "disabled", False],
            [True, "active", "disabled", True],
            [True, "active", "enabled", True],
            [True, "active", "disabled", True],
            [True, "inactive", "disabled", True],
        ],
        True,
        [True, True],
        [False, True],
    ],
    "units that run on app, by the command of the application and by type": [
        True,
        True,
        "systemctl list-units --type timer --all",
    ],
    "an inspector that has disconnected": [False, True, "worker", True, [None, None, None], [], False, ""],
    "a web service: its answers, refusals and errors": [
        False,
        True,
        True,
        "rows",
        [200, {"rows": 3}, "Mancer"],
        [201, {"made": True}, "Mancer"],
        [401, {"error": "Authorization required", "status": "error"}, "Mancer"],
        [200, {"inside": True}, "Mancer"],
        [500, {"error": "out of order", "status": "error"}, "Mancer"],
        [
            ["/", ["GET"]],
            ["/broken", ["GET"]],
            ["/inside", ["GET"]],
            ["/made", ["POST"]],
            ["/rows/<int:number>", ["GET"]],
        ],
        False,
    ],
    "a web service on a port that is taken": ["exit 1", False],
    "the example of a web service": [
        "Application is running. Press Ctrl+C to exit.",
        [
            [200, {"message": "Hello from Mancer Flask!", "query_params": {"a": "b"}, "status": "success"}, "Mancer"],
            [200, {"data": {"a": 1}, "message": "Echo", "status": "success"}, "Mancer"],
            [401, {"error": "Authorization required", "status": "error"}, "Mancer"],
            [200, {"message": "This route requires authorization", "status": "success"}, "Mancer"],
        ],
        "Closing application...",
    ],
    "whether Flask is there, and where it is not": [
        True,
        True,
        [
            "False",
            "Flask is not installed. Install it using: pip install flask | Flask is not installed. Install it using: pip install flask",
        ],
        ["own words", "own words"],
    ],
    "a file that goes to a machine and one that comes from it": [
        [True, "sent\n"],
        [True, "sent\n"],
        [False, "Local file not found: /no/such"],
    ],
    "a text and a backup, written to a machine over SSH": [[True, "[shop]\n"], True, "[shop]\n", False],
    "a configuration that goes from worker to app, with its backup and without": [
        True,
        True,
        "[old]\n",
        ["app", "worker"],
        [True, None, True],
        ["app"],
        {},
        [False, "Błąd połączenia z jednym z serwerów"],
    ],
    "a synchronization task that succeeds, its results on the disk, and when it ran": [
        [["to-app", ["app", "nobody"]]],
        [["app", True], ["nobody", False]],
        True,
        "to-app",
        True,
        [True, "every night"],
        [True, "/tmp/other.ini"],
        [True, []],
    ],
    "a template that is applied on a machine": [True, "[shop]\nrows = 5\n", False],
    "a line of a backend and one of echo, carried out on worker": [
        "date -u --universal -d @86400 --iso-8601=date",
        "1970-01-02\n",
        "a\\nb\n",
    ],
}


def of_records(app: e2e.Container) -> dict:
    """Returns expected facts of records.py that depend on a tool of app."""
    ls = re.search(r"\d+\.\d+", app.exec(["ls", "--version"]).success().stdout_text)[0]
    refusal = f"Wersja {ls} narzędzia ls nie jest dozwolona "
    return {"a command that looks at the version of its tool": [ls, None, 1, refusal, ls, ["0.1", "0.2"]]}


def of_system(app: e2e.Container) -> dict:
    """Returns expected facts of system.py that depend on a file of app."""
    sources = app.get("/etc/apt/sources.list").decode().splitlines()
    lines = sorted(f"/etc/apt/sources.list:{line}\n" for line in sources if not line.startswith("#"))
    return {"sources of packages": [True, "".join(lines)]}
