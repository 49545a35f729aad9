"""Objects that can say in plain values how they were made.

A checkpoint must rebuild the module without the YAML that started it and without unpickling objects. So every part
of a module (tasks, network, regularizer, balancing, the module itself) remembers the arguments it was constructed
with; ``describe`` turns them into nested dicts of plain values, the same ``class_path`` / ``init_args`` form as in a
config file, and ``rebuild`` makes the object again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from jtr_lightning.errors import ConfigError, KindError, UserError

PACKAGE = __name__.partition(".")[0]
POSITIONAL = "*"
"""Among the arguments of a description: those by position of an ``__init__`` that takes ``*args``, in a list."""
# numpy.float64, numpy.str_ and members of an enum are floats and strings, too, but would be pickled as what they are,
# which no checkpoint is read with. By the methods of the types themselves: a subclass may have others.
_EXACT: dict[type, Callable[[Any], Any]] = {str: str.__str__, int: int.__int__, float: float.__float__}


class Described:
    """Base of everything that a checkpoint rebuilds.

    Attributes:
        not_described: Names of ``__init__`` arguments that are left out because they matter to training alone.
    """

    not_described: tuple[str, ...] = ()
    _init_args: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _remembering(cls.__init__)  # type: ignore[method-assign]

    def describe(self) -> dict[str, Any]:
        """How to make this object again, in plain values.

        Returns:
            ``{"class_path": ..., "init_args": {...}}`` of str, int, float, bool, None, list and dict only.

        Raises:
            ConfigError: An argument has no plain form.
        """
        cls = type(self)
        return {
            "class_path": f"{cls.__module__}.{cls.__qualname__}",
            "init_args": {
                name: _plain(value, f"{cls.__qualname__}({name}=...)")
                for name, value in _arguments(self).items()
                if name not in self.not_described
            },
        }


def _remembering(init: Callable[..., None]) -> Callable[..., None]:
    """Wraps ``__init__`` so that the outermost one stores the arguments it was called with."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        if "_init_args" not in self.__dict__:
            # Not setattr: a torch Module refuses some values before its own __init__ has run.
            self.__dict__["_init_args"] = _by_name(signature.bind(self, *args, **kwargs))
        init(self, *args, **kwargs)

    return wrapped


def _arguments(part: Described) -> Mapping[str, Any]:
    """What a part was made with."""
    cls: Any = type(part)
    remembers = hasattr(cls.__init__, "__wrapped__")
    if dataclasses.is_dataclass(cls) and not remembers:
        # The decorator writes __init__ when the class is already made, too late to be wrapped.
        return {field.name: getattr(part, field.name) for field in dataclasses.fields(cls) if field.init}
    found: Mapping[str, Any] = part.__dict__.get("_init_args", {})
    return found


def _by_name(call: inspect.BoundArguments) -> dict[str, Any]:
    """A call's arguments by name, without ``self``; with ``*args``, all that stand before or in it under ``*``."""
    arguments = dict(call.arguments)
    arguments.pop("self", None)
    for parameter in call.signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(parameter.name, {}))
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL and call.arguments.get(parameter.name):
            return {POSITIONAL: list(call.args[1:]), **call.kwargs}
    return arguments


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Described):
        return value.describe()
    if value is None or type(value) is bool:
        return value
    for kind, exact in _EXACT.items():
        if isinstance(value, kind):
            return exact(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, where) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    raise ConfigError(
        f"Parameter {where} should be made of plain values (numbers, strings, lists, dicts) or of parts derived from "
        f"Described, so that a checkpoint can be loaded again; found {type(value).__name__}. Derive it from Described, "
        "or name the parameter in the class attribute `not_described`."
    )


def written_out(part: Described) -> str:
    """A part as its call is written, defaults included, for people: ``FractionLabels(fraction=0.5)``."""
    parameters = inspect.signature(type(part)).parameters.values()
    arguments = {p.name: p.default for p in parameters if p.default is not p.empty}
    arguments |= _arguments(part)
    inside = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"{type(part).__name__}({inside})" if inside else type(part).__name__


def differences(description: Mapping[str, Any], part: Described) -> tuple[str, str] | None:
    """Whether a description would make a part again.

    Args:
        description: What ``Described.describe`` returned.
        part: What it is compared with.

    Returns:
        The described class and the part's, such as ``('Depth(mean=1)', 'Depth(mean=2)')``, with the arguments that
        differ; None where they are alike. An argument that was left out counts as its default.
    """
    found = part.describe()
    paths = description["class_path"], found["class_path"]
    if paths[0] != paths[1]:
        first, second = (path.rpartition(".")[2] for path in paths)
        return (first, second) if first != second else paths
    defaults = _defaults(type(part))
    there, here = ({**defaults, **side["init_args"]} for side in (description, found))
    missing = object()
    names = [name for name in {**there, **here} if there.get(name, missing) != here.get(name, missing)]
    if not names:
        return None
    first, second = (
        f"{type(part).__name__}({', '.join(f'{name}={side[name]!r}' for name in names if name in side)})"
        for side in (there, here)
    )
    return first, second


def _defaults(cls: type[Described]) -> dict[str, Any]:
    """The plain defaults of a class's arguments, with those of the bases that it hands ``**kwargs`` on to."""
    defaults: dict[str, Any] = {}
    for owner in cls.__mro__:
        if "__init__" not in owner.__dict__:
            continue
        parameters = inspect.signature(owner.__dict__["__init__"]).parameters.values()
        for parameter in parameters:
            if parameter.default is not parameter.empty and parameter.name not in cls.not_described:
                defaults.setdefault(parameter.name, _plain(parameter.default, parameter.name))
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
            break
    return defaults


def rebuild(description: Any) -> Any:
    """Makes again what ``Described.describe`` told.

    Only classes derived from ``Described`` are made, and only modules of this package are imported: a checkpoint
    is data and must not decide which code runs. A class of your own is found once its module is imported.

    Args:
        description: What ``describe`` returned, or a part of it.

    Returns:
        The object (for a description), or the value with all descriptions in it replaced.

    Raises:
        ConfigError: The class is not known here, or is not a ``Described``.
    """
    if isinstance(description, list):
        return [rebuild(item) for item in description]
    if not isinstance(description, dict):
        return description
    if set(description) != {"class_path", "init_args"}:
        return {key: rebuild(item) for key, item in description.items()}
    class_path, arguments = description["class_path"], description["init_args"]
    if not isinstance(class_path, str) or not isinstance(arguments, dict):
        raise ConfigError(
            "The checkpoint should describe each part by the name of its class and its arguments; found "
            f"{type(class_path).__name__} and {type(arguments).__name__}. The file is damaged, or was not written by "
            "jtr-lightning."
        )
    cls = _find_class(class_path)
    try:
        named = {name: rebuild(value) for name, value in arguments.items()}
        positional = named.pop(POSITIONAL, [])
        return cls(*positional, **named)
    except Exception as error:  # a class may make anything of arguments that are none of its own
        # What a part says of its own arguments is clear; a part of another kind is nobody's choice in a checkpoint.
        if isinstance(error, UserError) and not isinstance(error, KindError):
            raise
        raise ConfigError(
            f"The checkpoint should describe a {cls.__name__} that can be made here; found arguments that do not fit "
            f"({type(error).__name__}: {error}). It was written by another version of the class, or is damaged."
        ) from error


def _find_class(class_path: str) -> type[Described]:
    module_name, _, name = class_path.rpartition(".")
    if module_name not in sys.modules and module_name.partition(".")[0] == PACKAGE:
        with contextlib.suppress(ImportError):  # told below
            __import__(module_name)
    found = getattr(sys.modules.get(module_name), name, None)
    if found is None:
        raise ConfigError(
            f"The checkpoint was made with the class '{class_path}', which is not imported here; import the module "
            f"'{module_name}' before loading (a checkpoint never imports code by itself; `jtr export` and `jtr predict "
            f"--images` import what --import names)."
        )
    if not (isinstance(found, type) and issubclass(found, Described)):
        raise ConfigError(
            f"The checkpoint names '{class_path}' as a part of the module, but that is no class derived from "
            "jtr_lightning.described.Described; the file is damaged or was not written by jtr-lightning."
        )
    return found
