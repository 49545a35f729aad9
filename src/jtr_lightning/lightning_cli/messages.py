"""Turns what jsonargparse says about a wrong argument into one sentence.

Its messages tell every branch of every union that was tried. The innermost one is what the user got wrong; the class
and the parameter that it names tell what would have been right.
"""

from __future__ import annotations

import inspect
import itertools
import re
import typing
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from jtr_lightning.errors import did_you_mean

_CALLABLE = re.compile(
    r"^(?P<indentation> *)(?P<before>.*)Type \S.* expects a function or a callable class: "
    r"(?P<told>(?:(?!expects a function)(?:.|\n))+?)\. Got value: Namespace\(class_path='(?P<name>[^']+)'.*$",
    re.MULTILINE,
)
_CALLABLE_MISSING = re.compile(
    r"^(?P<indentation> *)(?P<before>.*)Type \S.* expects a function or a callable class: "
    r"(?P<told>the following arguments are required: .+)"
    r"(?=(?:\n(?! *Given value: ).*)*\n *Given value: Namespace\(class_path='(?P<name>[^']+)')",
    re.MULTILINE,
)
"""The same where it lacks an argument: then the value stands behind all that the parameter might have been."""
_KEY = re.compile(r'Parser key "([^"]+)"')
_CLASS = re.compile(r"Problem with given class_path '([^']+)'")
_NUMBERS = ("<class 'float'>", "<class 'int'>", "<class 'bool'>")
"""Types whose values are no text: where one of them would do as well as a class, a text is of a wrong type."""
_NO_CLASS = re.compile(
    r"Expected a dot import path string: (?P<a>.+)"
    r"|Problem with given class_path '(?P<b>[^']+)':\s+(?:No module named|module '[^']+' has no attribute)"
    r"|Import path (?P<c>\S+) does not correspond to a subclass"
)
_NO_HELP = re.compile(r"--([\w.]+)\.help: Expected a dot import path string: (.+)")
_CLASS_FIRST = re.compile(
    r"Expected an instantiatable class, but \S+ is abstract(?:.|\n)*?Given value: NestedArg\(key='([^']+)'"
)
_TOP = {
    "data": "jtr_lightning.data.base.PartialLabelDataModule",
    "model": "jtr_lightning.module.PartialLabelModule",
}
"""What is chosen first, of which the message about a wrong ``--data.help`` does not tell the type."""
_BASES = ("torch.optim.optimizer.Optimizer", "torch.optim.lr_scheduler.LRScheduler")
"""Classes that nobody can choose, although Python does not know them as abstract."""
_NO_PARAMETER = re.compile(r"Option '([^']+)' is not accepted")
_NO_OPTION = re.compile(r"does not accept option '([^']+)'|[Uu]nrecognized arguments: (\S+)")
_MISSING = re.compile(r"the following arguments are required: (.+)")
_WRONG_TYPE = re.compile(r"Expected an? (?!dot import path|path but)")
_SUBTYPES = re.compile(r"Subtypes: \[(.+)\]")
_EXPECTED = re.compile(r"Expected an? (.+?)(?:\. Got value: .*)?$", re.MULTILINE)
_VALUE = re.compile(r"(?:Given|Got) value: (.+)")
_CLASS_NAME = re.compile(r"<class '([^']+)'>|\b(?:\w+\.)+(\w+)")


def sentence(message: str, options: Iterable[str] = ()) -> str:
    """One sentence for a message of jsonargparse.

    Args:
        message: Its whole message.
        options: Every option of the parser, to suggest near matches from.

    Returns:
        What was expected, what was found, where, and near matches where there are any.
    """
    for pattern in (_CALLABLE_MISSING, _CALLABLE):
        message = pattern.sub(_like_other_classes, message)
    found = _NO_HELP.search(message)
    if found:
        return _no_help(found.group(1), found.group(2).strip(), message[: found.start()])
    found = _CLASS_FIRST.search(message)
    if found:
        return _class_first(found.group(1), message[: found.start()])
    for pattern, tell in (
        (_NO_PARAMETER, _unknown_parameter),
        (_NO_CLASS, _unknown_class),
        (_MISSING, _missing),
    ):
        found = pattern.search(message)
        if found and not (pattern is _NO_CLASS and _may_be_a_number(message[: found.start()])):
            name = next(group for group in found.groups() if group)
            return tell(name.strip(), message[: found.start()])
    found = _NO_OPTION.search(message)
    if found:
        return _unknown_option(found.group(1) or found.group(2), options, named=found.group(1) is not None)
    found = _WRONG_TYPE.search(message)
    if found and _KEY.search(message):
        return _wrong_type(message)
    return f"The arguments could not be read: {' '.join(message.split()).rstrip('.')}."


def _like_other_classes(found: re.Match[str]) -> str:
    """What is wrong with a class that makes something later, such as an optimizer, as it is said of others."""
    indented = " " * (len(found["indentation"]) + 2)  # less than the lines that follow
    return (
        f"{found['indentation']}{found['before']}Problem with given class_path '{found['name']}':\n{indented}"
        f"{found['told']}"
    )


def _may_be_a_number(before: str) -> bool:
    """Whether the innermost parameter takes numbers beside classes."""
    types = _SUBTYPES.findall(before)
    return bool(types) and any(number in types[-1] for number in _NUMBERS)


def _unknown_option(given: str, options: Iterable[str], named: bool) -> str:
    """All options are too many to list, of which ``--help`` tells more."""
    if not named and not given.startswith("-"):
        return (
            f"Every argument should stand behind its option; found '{given}' without one. A config file is given as "
            f"--config {given}."
        )
    name = given.removeprefix("--").partition("=")[0]
    near = get_close_matches(name, list(options))
    return f"There is no option '{name}'; {did_you_mean(name, near) if near else 'see --help.'}"


def _where(before: str) -> str:
    """The parameter that the last part of a message is about, e.g. ``data.scenario``."""
    return ".".join(_KEY.findall(before))


def _unknown_parameter(name: str, before: str) -> str:
    owner = _CLASS.findall(before)
    if not owner:
        return f"There is no option '{name}'; see --help."
    cls = _import(owner[-1])
    known = [p for p in inspect.signature(cls).parameters if p not in ("args", "kwargs")] if cls else []
    return (
        f"{owner[-1].rpartition('.')[2]} has no parameter '{name}'; "
        f"{did_you_mean(name, known) if known else 'it has none.'}"
    )


def _unknown_class(name: str, before: str) -> str:
    where = _where(before)
    known = sorted(set(_class_names(_type_of(before))))
    hint = did_you_mean(name.rpartition(".")[2], known) if known else "give the import path of a class."
    return f"Parameter `{where}` should name a class; found '{name}', {hint}"


def _no_help(option: str, name: str, before: str) -> str:
    """A ``.help`` of an unknown class; ``option`` is the parameter below the innermost class."""
    owners = _CLASS.findall(before)
    hint = _parameter_type(_import(owners[-1]), option) if owners else _import(_TOP.get(option, ""))
    known = sorted(set(_class_names(hint)))
    remedy = did_you_mean(name.rpartition(".")[2], known) if known else "give the import path of a class."
    where = ".".join(part for part in (_where(before), option) if part)
    return f"Option --{where}.help should name a class; found '{name}', {remedy}"


def _class_first(parameter: str, before: str) -> str:
    """A parameter of a class that nobody has named."""
    where, known = _where(before), sorted(set(_class_names(_type_of(before))))
    classes = ", ".join(repr(name) for name in known) or "a class"
    return (
        f"Parameter `{where}` should name a class before its `{parameter}` is given; found none. Give --{where} with "
        f"one of {classes}, or a --config that does."
    )


def _missing(names: str, before: str) -> str:
    wanted = [name.strip().partition(".")[2] or name.strip() for name in names.split(",")]
    owner = _CLASS.findall(before)
    if owner:
        where = _where(before)
        flags = " ".join(f"--{where}.{name.strip()}" for name in names.split(","))
        return (
            f"{owner[-1].rpartition('.')[2]} should be given {names}; give {flags}, or a --config that does."
        )
    flags = " ".join(f"--{name}" for name in wanted)
    return f"The command should be given {', '.join(wanted)}; give {flags}, or a --config that does."


def _wrong_type(message: str) -> str:
    last_key = list(_KEY.finditer(message))[-1]
    told = _indented(message[: last_key.start()], message[last_key.end() :])
    subtypes, expected = _SUBTYPES.search(told), _EXPECTED.search(told)
    types = _split(subtypes.group(1)) if subtypes else [expected.group(1)] if expected else []
    key = last_key.group(1)
    words = list(dict.fromkeys(_in_words(type_name, key) for type_name in types)) or ["of another type"]
    values = _VALUE.findall(told)
    found = values[-1].strip() if values else "another value"
    return f"Parameter `{_where(message[: last_key.end()])}` should be {' or '.join(words)}; found {found}."


def _indented(before: str, after: str) -> str:
    """What a message says of its innermost parameter: the lines that are indented further than the parameter's own."""
    indentation = len(before) - len(before.rstrip(" "))
    first, *rest = after.split("\n")
    kept = itertools.takewhile(
        lambda line: not line.strip() or len(line) - len(line.lstrip()) > indentation, rest
    )
    return "\n".join([first, *kept])


def _split(types: str) -> list[str]:
    """The types of a union, which are separated by commas outside of brackets."""
    return [part.strip() for part in re.findall(r"(?:[^,\[]|\[(?:[^\[\]]|\[[^\]]*\])*\])+", types)]


def _in_words(type_name: str, key: str) -> str:
    """A type as a person says it."""
    if type_name.startswith("typing.Literal["):
        return type_name[len("typing.Literal[") : -1].replace(", ", " or ")
    if key.endswith("size") and type_name.startswith("tuple[int, int]"):
        return "a height and a width (such as [64, 80])"
    name = _CLASS_NAME.sub(lambda found: (found.group(1) or found.group(2)).rpartition(".")[2], type_name)
    return name.replace("NoneType", "null")


def _type_of(before: str) -> Any:
    """The annotation of the innermost parameter, or of ``model`` and ``data`` themselves."""
    key = _KEY.findall(before)[-1]
    owners = _CLASS.findall(before)
    if owners:
        return _parameter_type(_import(owners[-1]), key)
    bases = re.search(r"Subtypes: \[<class '([^']+)'>", before)
    return _import(bases.group(1)) if bases else None


def _parameter_type(cls: Any, name: str) -> Any:
    """The annotation of a parameter, in the class or in the base that it hands the parameter on to."""
    for owner in getattr(cls, "__mro__", ()):
        try:
            hints = typing.get_type_hints(owner.__init__)
        except NameError:  # a name that is imported for type checkers only
            continue
        if name in hints:
            return hints[name]
    return None


def _import(path: str) -> Callable[..., Any] | None:
    module, _, name = path.rpartition(".")
    try:
        found: Callable[..., Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None
    return found


def _class_names(hint: Any) -> Iterator[str]:
    """Names of the concrete classes that a type hint allows."""
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        if hint.__module__ != "builtins":
            base = inspect.isabstract(hint) or f"{hint.__module__}.{hint.__name__}" in _BASES
            if not base and not hint.__name__.startswith("_"):
                yield hint.__name__
            children: list[type] = hint.__subclasses__()
            for child in children:
                yield from _class_names(child)
        return
    for part in typing.get_args(hint):
        if not isinstance(part, list):
            yield from _class_names(part)
