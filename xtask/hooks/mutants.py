"""Replaces functions of Python modules by broken ones: the hook of mutants.

Each broken function takes the place of the original right after the original's module has run, before any other module can import it.
`e2e_mutations.py` beside this file lists the functions. Of a function that is emptied, the module runs without its body.
"""

import os
import sys

# Every process of the machine may add a line to it.
REACHED = "/e2e-mutant/reached"
HERE = os.path.dirname(os.path.abspath(__file__))
# The code of the modules with emptied functions, by the name of the module.
EMPTIED_CODE = os.path.join(HERE, "e2e_emptied.bin")


class Finder:
    """Finds the modules with broken functions as the other finders do, and has the functions replaced."""

    def __init__(self, mutations, emptied):
        self.mutations, self.emptied = mutations, emptied

    def find_spec(self, name, path=None, target=None):
        if name not in self.mutations and name not in self.emptied:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec = find(name, path, target)
            if spec is None:
                continue
            if hasattr(spec.loader, "exec_module"):
                spec.loader = Loader(spec.loader, self.mutations.get(name, []), self.emptied.get(name))
            return spec
        return None


class Loader:
    """Runs a module by its own loader, then replaces functions of it."""

    def __init__(self, own, mutations, emptied):
        self.own, self.mutations, self.emptied = own, mutations, emptied

    def create_module(self, spec):
        return self.own.create_module(spec)

    def exec_module(self, module):
        # What asks a module for its loader gets the one that it would have had.
        module.__loader__ = module.__spec__.loader = self.own
        if self.emptied is None:
            self.own.exec_module(module)
        else:
            exec(self.emptied, vars(module))
        for path, code in self.mutations:
            replace(module, path, code)

    def __getattr__(self, name):
        return getattr(self.own, name)


def replace(module, path, code):
    """Puts the function `broken` of a code in place of the function at this path in the module."""
    shown = f"{module.__name__}:{path}"
    *outer, name = path.split(".")
    owner = module
    for part in outer:
        owner = vars(owner).get(part)
        if not isinstance(owner, type):
            raise LookupError(f"mutant: {shown}: {module.__name__} has no class {part}")
    if name not in vars(owner):
        raise LookupError(f"mutant: {shown}: there is no function of this name, or a base class has it")
    own = vars(owner)[name]
    if isinstance(own, type) or not (callable(own) or isinstance(own, (staticmethod, classmethod, property))):
        raise LookupError(f"mutant: {shown}: this is no function: name a function, a method or a property")
    space = {"__name__": "mutant"}
    exec(compile(code, f"<mutant of {shown}>", "exec"), space)
    if not callable(space.get("broken")):
        raise LookupError(f"mutant: {shown}: `becomes` defines no function `broken`")
    setattr(owner, name, wrapped(own, space["broken"], shown))


def wrapped(own, broken, shown):
    if isinstance(own, (staticmethod, classmethod)):
        return type(own)(wrapped(own.__func__, broken, shown))
    if isinstance(own, property):
        return property(wrapped(own.fget, broken, shown), own.fset, own.fdel, own.__doc__)
    from functools import wraps

    @wraps(own)
    def mutant(*args, **kwargs):
        mark(shown)
        return broken(own, *args, **kwargs)

    return mutant


marked = set()


def mark(shown):
    """Leaves the mark by which the engine knows that the function was called, once in a process."""
    if shown in marked:
        return
    marked.add(shown)
    try:
        file = os.open(REACHED, os.O_WRONLY | os.O_APPEND)
    except OSError:
        return
    try:
        os.write(file, f"{shown}\n".encode())
    finally:
        os.close(file)


def by_module(mutations):
    found = {}
    for function, code in mutations:
        module, path = function.split(":")
        found.setdefault(module, []).append((path, code))
    return found


def start():
    import marshal

    from e2e_mutations import EMPTIED, MUTATIONS

    emptied = {}
    if EMPTIED:
        with open(EMPTIED_CODE, "rb") as file:
            emptied = marshal.load(file)
    sys.meta_path.insert(0, Finder(by_module(MUTATIONS), emptied))


def prepare(folder):
    """Fails unless every function is there to be replaced or emptied."""
    import importlib

    # A module may call the function when it is imported: that is no mark of a scenario.
    global REACHED
    REACHED = os.devnull
    sys.path.insert(0, folder)
    from e2e_mutations import EMPTIED, MUTATIONS

    if EMPTIED:
        prepare_emptied(EMPTIED)
    start()
    for module in by_module(MUTATIONS):
        try:
            importlib.import_module(module)
        except LookupError as error:
            raise SystemExit(str(error))
        except Exception as error:
            raise SystemExit(f"mutant: the module {module} cannot be imported: {type(error).__name__}: {error}")


def prepare_emptied(functions):
    """Compiles the modules of the functions to be emptied, so that no process has to."""
    import marshal
    from importlib.util import find_spec

    from e2e_source import emptied

    found = {}
    for function, value in functions:
        module, path = function.split(":")
        try:
            spec = find_spec(module)
            source = spec.loader.get_source(module)
            mark = f"__import__('e2e_hook').mark({function!r})"
            found[module] = emptied(source, spec.origin, path, value, mark)
        except LookupError as error:
            raise SystemExit(f"mutant: {function}: {error}")
        except Exception as error:
            raise SystemExit(f"mutant: the module {module} has no source: {type(error).__name__}: {error}")
    with open(EMPTIED_CODE, "wb") as file:
        marshal.dump(found, file)
