"""Every public name explains itself; a method that overrides may leave that to its base."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import textwrap

import jtr_lightning
from jtr_lightning import errors


def public_objects():
    for info in pkgutil.walk_packages(jtr_lightning.__path__, "jtr_lightning."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        yield info.name, module
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != info.name:
                continue
            if inspect.isfunction(value) or inspect.isclass(value):
                yield f"{info.name}.{name}", value
            if inspect.isclass(value):
                for method_name, method in vars(value).items():
                    if not method_name.startswith(("_", "test_")) and inspect.isfunction(method):
                        yield f"{info.name}.{name}.{method_name}", getattr(value, method_name)


def test_every_public_name_has_a_docstring() -> None:
    objects = dict(public_objects())
    assert len(objects) > 100
    assert [name for name, value in objects.items() if not (inspect.getdoc(value) or "").strip()] == []


def raised(function: object) -> set[str]:
    """Which of our errors a function raises itself, by a name that its ``raise`` has."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body  # type: ignore[arg-type]
    found, nodes = set(), list(ast.iter_child_nodes(tree))
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            continue  # raised by whoever calls it
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.add(ast.unparse(node.exc.func).rpartition(".")[2])
        nodes += ast.iter_child_nodes(node)
    return {name for name in found if inspect.isclass(getattr(errors, name, None))}


def documented(docs: list[str]) -> set[str]:
    """Which errors the docstrings name under Raises, with those that derive from them."""
    named = {
        line.strip().partition(":")[0]
        for doc in docs
        for line in inspect.cleandoc(doc).partition("Raises:")[2].splitlines()
    }
    known = [getattr(errors, name) for name in named if inspect.isclass(getattr(errors, name, None))]
    kinds = [value for value in vars(errors).values() if inspect.isclass(value)]
    return {kind.__name__ for kind in kinds if issubclass(kind, tuple(known))}


def functions_with_docs():
    """Public functions and methods by name, each with the docstrings of its own and of what it overrides."""
    for name, value in public_objects():
        if inspect.isfunction(value):
            owner = importlib.import_module(value.__module__)
            for part in value.__qualname__.split(".")[:-1]:
                owner = getattr(owner, part)
            family = inspect.getmro(owner) if inspect.isclass(owner) else [owner]
            methods = [vars(kind).get(value.__name__) for kind in family]
            yield name, value, [method.__doc__ for method in methods if getattr(method, "__doc__", None)]
        elif inspect.isclass(value):
            makes = "__post_init__" if dataclasses.is_dataclass(value) else "__init__"
            if inspect.isfunction(vars(value).get(makes)):
                yield name, vars(value)[makes], [value.__doc__ or ""]


def test_every_error_that_a_public_function_raises_is_documented() -> None:
    missing = {
        name: undocumented
        for name, function, docs in functions_with_docs()
        if (undocumented := raised(function) - documented(docs))
    }
    assert missing == {}


def test_only_what_a_function_raises_itself_counts() -> None:
    def function() -> None:
        def inner() -> None:
            raise errors.ConfigError("of another function")

        if inner is not None:
            raise errors.DataError("its own")
        raise ValueError("of Python")

    assert raised(function) == {"DataError"}
    assert documented(["Does it.\n\n    Raises:\n        UserError: It."]) >= {"DataError", "ConfigError"}
    assert documented(["A DataError: none."]) == set()
