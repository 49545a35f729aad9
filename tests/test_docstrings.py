"""Every public name explains itself; a method that overrides may leave that to its base."""

import importlib
import inspect
import pkgutil

import jtr_lightning


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
