"""Functions in the source of Python modules, and what becomes of a module without the body of one: for the hooks.

The build of a layer alone imports this.
"""

import ast

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def functions_of(tree):
    """Yields the path of each function in its module, with its node and the line that Python gives to its code.

    A setter of a property is `Class.property.setter`, a function in a function is `function.<locals>.inner`.
    """

    def visit(node, path):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from visit(child, [*path, child.name])
            elif isinstance(child, FUNCTION):
                decorators = [
                    one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", None)
                    for one in child.decorator_list
                ]
                # It is never called: it tells types to a checker.
                if "overload" in decorators:
                    continue
                part = [one for one in decorators if one in ("setter", "deleter")]
                line = min([child.lineno, *(one.lineno for one in child.decorator_list)])
                yield ".".join([*path, child.name, *part]), child, line
                yield from visit(child, [*path, child.name, "<locals>"])
            else:
                yield from visit(child, path)

    yield from visit(tree, [])


def does_nothing(node):
    """Whether the body is empty already, or returns an empty value at once: without it the function would do the same."""

    def is_nothing(statement):
        if isinstance(statement, ast.Pass):
            return True
        if isinstance(statement, ast.Expr):
            return isinstance(statement.value, ast.Constant)
        if not isinstance(statement, ast.Return):
            return False
        value = statement.value
        if isinstance(value, (ast.List, ast.Tuple)):
            return not value.elts
        return value is None or isinstance(value, ast.Dict) and not value.keys or (
            isinstance(value, ast.Constant) and not value.value
        )

    return all(is_nothing(statement) for statement in node.body)


def emptied(source, file, path, value, mark):
    """Compiles the source of a module without the body of the function at this path.

    The function executes the statement `mark`, then returns the value of the expression `value`. A generator yields nothing. What
    decorates the function stays.

    Raises a LookupError where there is no such function.
    """
    tree = ast.parse(source, file)
    nodes = [node for found, node, _ in functions_of(tree) if found == path]
    if not nodes:
        raise LookupError("there is no function of this name")
    for node in nodes:
        first, *_ = node.body
        is_described = isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str)
        end = "return\nyield" if is_generator(node) else f"return {value}"
        # The functions are parsed as a whole: `return` stands in none otherwise.
        body = ast.parse(f"def f():\n    {mark}\n    " + end.replace("\n", "\n    ")).body[0].body
        for statement in body:
            for part in ast.walk(statement):
                ast.copy_location(part, first)
        node.body = [first, *body] if is_described else body
    return compile(ast.fix_missing_locations(tree), file, "exec", dont_inherit=True)


def is_generator(function):
    """Whether the function itself yields, and not one inside it."""

    def yields(node):
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return True
        if isinstance(node, (*FUNCTION, ast.Lambda)):
            return False
        return any(map(yields, ast.iter_child_nodes(node)))

    return any(map(yields, function.body))
