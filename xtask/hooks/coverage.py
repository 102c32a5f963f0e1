"""Writes down which functions of a Python package are called: the hook of `--coverage`.

Each function is written to the file CALLS when it is first called in a process, and the type of the first value that it returns when it
returns one that is not None. A process that is killed or forked loses nothing. A line has words with a tab between them:

    call    shop.files:Store.upload    driver.py
    value   shop.files:Store.upload    driver.py    bool
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# Every process of the machine may add a line to it.
CALLS = "/e2e-coverage/calls"
# No process makes the file longer than this: the engine reports a file that is as long as incomplete.
BYTES_MAX = 4 << 20
# The engine reads it from the layer.
LIST = os.path.join(HERE, "functions.json")
# What `start` reads: the names of the functions, by their file, and in it by their line and their own name.
TABLE = os.path.join(HERE, "e2e_functions.py")


def start():
    import threading

    from e2e_functions import FUNCTIONS

    profile = profiler({os.path.join(HERE, path): functions for path, functions in FUNCTIONS.items()})
    own_setprofile = sys.setprofile
    of_program = threading.local()

    def setprofile(function):
        """Takes a program's own profiler beside this one."""
        of_program.function = function
        if function is None:
            own_setprofile(profile)
            return

        def both(frame, event, arg):
            profile(frame, event, arg)
            function(frame, event, arg)

        own_setprofile(both)

    def getprofile():
        return getattr(of_program, "function", None)

    sys.setprofile, sys.getprofile = setprofile, getprofile
    threading.setprofile(profile)
    own_setprofile(profile)


def profiler(files):
    """Makes the function that Python calls at each call and return. What it does after a function's first value is what costs."""
    # Code by its number: it is kept, so that no other code gets the number.
    known = {}
    awaited = set()
    writer = Writer()

    def first_call(code, functions):
        function = functions.get((code.co_firstlineno, code.co_name))
        if function is not None:
            if not writer.write("call", function):
                return
            # What a generator yields is no value that it returns.
            if not code.co_flags & (0x20 | 0x80 | 0x200):
                awaited.add(id(code))
        known[id(code)] = code

    def first_value(code, value):
        function = files[code.co_filename][code.co_firstlineno, code.co_name]
        kind = type(value)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        if writer.write("value", function, name):
            awaited.discard(id(code))

    def profile(frame, event, arg):
        if event == "call":
            code = frame.f_code
            functions = files.get(code.co_filename)
            if functions is not None and id(code) not in known:
                first_call(code, functions)
        elif event == "return" and arg is not None:
            code = frame.f_code
            if id(code) in awaited:
                first_value(code, arg)

    return profile


class Writer:
    """Adds lines to the file of calls, each at most once for a program."""

    def __init__(self):
        self.written = None

    def write(self, kind, function, *more):
        """Returns False where the line could not be written, and may be tried again."""
        argv = getattr(sys, "argv", None) or [""]
        program = "".join(c if c.isprintable() else "?" for c in os.path.basename(str(argv[0]))[:100])
        key = (kind, function, program)
        try:
            if self.written is None:
                self.written = self.read()
            if key in self.written:
                return True
            file = os.open(CALLS, os.O_WRONLY | os.O_APPEND)
        except OSError:
            return False
        try:
            if os.lseek(file, 0, os.SEEK_END) < BYTES_MAX:
                os.write(file, ("\t".join([*key, *more]) + "\n").encode(errors="backslashreplace"))
        except OSError:
            return False
        finally:
            os.close(file)
        self.written.add(key)
        return True

    def read(self):
        """What other processes have written: the file stays as long as the functions times the programs."""
        file = os.open(CALLS, os.O_RDONLY)
        try:
            text = os.read(file, BYTES_MAX)
        finally:
            os.close(file)
        return {tuple(line.split("\t")[:3]) for line in text.decode(errors="replace").splitlines()}


def prepare(folder, package):
    """Lists the functions of the package, as its installed metadata names its files."""
    import ast
    import json
    from importlib.metadata import distributions

    from e2e_source import does_nothing, functions_of

    def same(name):
        return (name or "").lower().replace("_", "-").replace(".", "-")

    found = [one for one in distributions(path=[folder]) if same(one.metadata["Name"]) == same(package)]
    if not found or found[0].files is None:
        raise SystemExit(f"coverage: {folder} has no installed package {package} with a list of its files")
    table, functions = {}, {}
    for path in sorted(str(path) for path in found[0].files):
        parts = path.split("/")
        if not path.endswith(".py") or ".." in parts or path.startswith("/"):
            continue
        module = ".".join(parts)[: -len(".py")]
        module = module[: -len(".__init__")] if module.endswith(".__init__") else module
        try:
            with open(os.path.join(folder, path), "rb") as file:
                tree = ast.parse(file.read())
        except (SyntaxError, ValueError, FileNotFoundError):
            continue  # no process can import it
        for path_in_module, node, first_line in functions_of(tree):
            function = f"{module}:{path_in_module}"
            table.setdefault(path, {})[first_line, node.name] = function
            listed = {"function": function, "file": path, "line": node.lineno, "does_nothing": does_nothing(node)}
            known = functions.setdefault(function, listed)
            known["does_nothing"] &= does_nothing(node)
    if not functions:
        raise SystemExit(f"coverage: the package {package} in {folder} has no functions")
    with open(TABLE, "w") as file:
        file.write(f"FUNCTIONS = {table!r}\n")
    listed = {"package": found[0].metadata["Name"], "version": found[0].version, "functions": list(functions.values())}
    with open(LIST, "w") as file:
        json.dump(listed, file)
