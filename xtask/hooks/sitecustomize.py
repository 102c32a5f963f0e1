"""Starts a hook in each Python process of a machine: the part of a thin layer that the engine brings.

Python imports `sitecustomize` by itself when it starts. `e2e_hook.py` beside this file is the hook: the mutants' or that of coverage.

    python3 sitecustomize.py FOLDER [WORD...]

installs the files of the hook into FOLDER, the one that the product's packages lie in. Before that, the hook prepares itself from
the packages and the words; it fails where it has nothing to work on.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# The product's own module of this name, where it has one.
ASIDE = "e2e_own_sitecustomize"


def run_own_sitecustomize():
    """The module of this name that Python would have found: in this folder before, or further down its path."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    spec = PathFinder.find_spec(ASIDE, [HERE])
    if spec is None:
        elsewhere = [path for path in sys.path if os.path.abspath(path) != HERE]
        spec = PathFinder.find_spec("sitecustomize", elsewhere)
    if spec is None or spec.loader is None:
        return
    try:
        spec.loader.exec_module(module_from_spec(spec))
    except ImportError:
        pass  # as Python's own `site` does


def install(folder, *words):
    import py_compile
    import shutil

    sys.dont_write_bytecode = True
    sys.path.insert(0, HERE)
    import e2e_hook

    os.chdir("/tmp")
    e2e_hook.prepare(folder, *words)
    target = os.path.join(folder, "sitecustomize.py")
    if os.path.exists(target):
        os.rename(target, os.path.join(folder, f"{ASIDE}.py"))
    for name in sorted(os.listdir(HERE)):
        if name == "sitecustomize.py" or name.startswith("e2e_"):
            shutil.copyfile(os.path.join(HERE, name), os.path.join(folder, name))
            if name.endswith(".py"):
                py_compile.compile(os.path.join(folder, name), doraise=True)


if __name__ == "__main__":
    install(*sys.argv[1:])
elif __name__ == "sitecustomize":
    import e2e_hook

    e2e_hook.start()
    run_own_sitecustomize()
