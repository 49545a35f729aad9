"""Runs the tests of mutants, each in a fork of a process that has imported everything."""

from __future__ import annotations

import ast
import inspect
import os
import pickle
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_loader
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from mutants import Mutant

PACKAGE = "jtr_lightning"
FAILED = (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)  # a test, or already its import


@dataclass
class Reach:
    """Which tests reach which lines, in an unchanged run.

    Attributes:
        tests: Of each file, line to the tests that execute it; a line that is executed at the import has ``""``.
        seconds: Processor time of each test.
        failed: Tests that fail without any change.
    """

    tests: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)


# Choosing tests


@cache
def _statements(path: Path) -> list[range]:
    """The lines of each statement, of a compound one those before its body."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.stmt):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno
            found.append(range(first, max(node.lineno, last or 0) + 1))
    return found


def tests_for(mutant: Mutant, reach: Reach) -> list[str]:
    """The tests that execute the changed statement, the quickest first; all where it is executed at the import."""
    lines = min((lines for lines in _statements(mutant.path) if mutant.line in lines), key=len)
    by_line = reach.tests[str(mutant.path)]
    found = {test for line in lines for test in by_line.get(line, [])}
    if found == {""}:
        found = {test for tests in by_line.values() for test in tests}
    return sorted(found - {""}, key=lambda test: (reach.seconds[test], test))


class _Chosen:
    """Runs some of the collected tests, in a given order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.order = {test: number for number, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.order), key=lambda i: self.order[i.nodeid])


class _Recorder:
    """Notes which test executes which line, and how long each one takes."""

    def __init__(self, paths: Sequence[Path]) -> None:
        from coverage import Coverage

        self.coverage = Coverage(data_file=None, config_file=False, include=[str(p.resolve()) for p in paths])
        self.reach = Reach()
        self.paths = paths
        self.began = 0.0

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.coverage.switch_context(nodeid)
        self.began = time.process_time()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.reach.seconds[nodeid] += time.process_time() - self.began

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.reach.failed.append(report.nodeid)

    def finish(self) -> Reach:
        self.coverage.stop()
        data = self.coverage.get_data()
        for path in self.paths:
            self.reach.tests[str(path)] = data.contexts_by_lineno(str(path.resolve()))
        return self.reach


def measure(paths: Sequence[Path], tests: Sequence[str]) -> Reach:
    """Runs the tests once, in a fork, with nothing changed."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.close(reading)
        recorder = _Recorder(paths)
        recorder.coverage.start()
        forget()  # so that what is executed at the import is seen
        run_tests(tests, recorder)
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(recorder.finish(), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        reach: Reach = pickle.load(pipe)  # noqa: S301  from our own fork
    os.waitpid(child, 0)
    return reach


# Running a mutant


def run_tests(tests: Sequence[str], *plugins: Any) -> int:
    """Runs tests in this process, silently, until the first fails."""
    Path(os.environ["XDG_CACHE_HOME"]).mkdir(parents=True, exist_ok=True)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests], list(plugins)))


def forget() -> None:
    """Lets everything of ours be imported anew."""
    for name in list(sys.modules):
        if name.partition(".")[0] in (PACKAGE, "tests"):
            del sys.modules[name]


def changed_function(
    old: CodeType, new: CodeType, names: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], CodeType] | None:
    """The outermost function that holds every difference, with the names that lead to it; None if there is none."""
    nested = [
        (a, b)
        for a, b in zip(old.co_consts, new.co_consts, strict=False)
        if isinstance(a, CodeType) and a != b
    ]
    rest = [[c for c in code.co_consts if not isinstance(c, CodeType)] for code in (old, new)]
    if len(nested) != 1 or old.co_code != new.co_code or rest[0] != rest[1] or old.co_names != new.co_names:
        return None
    a, b = nested[0]
    names = (*names, a.co_name)
    return (names, b) if a.co_flags & inspect.CO_OPTIMIZED else changed_function(a, b, names)


def exchange(mutant: Mutant) -> bool:
    """Gives the imported function the changed code; False where the change is in no function."""
    name = module_name(mutant.path)
    found = changed_function(
        compile(mutant.path.read_text(), str(mutant.path), "exec"),
        compile(mutant.source, str(mutant.path), "exec"),
    )
    if found is None:
        return False
    names, code = found
    value: Any = sys.modules[name]
    for part in names:
        value = vars(value).get(part)
    value = getattr(value, "fget", None) or getattr(value, "__func__", None) or value
    value = value.func if isinstance(value, cached_property) else inspect.unwrap(value)
    if not isinstance(value, FunctionType) or value.__code__.co_freevars != code.co_freevars:
        return False
    value.__code__ = code.replace(co_filename=value.__code__.co_filename)
    return True


class _Changed(SourceFileLoader):
    """Imports a module from a changed text; finds that module alone."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(module_name(mutant.path), str(mutant.path.resolve()))
        self.source = mutant.source

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return spec_from_loader(name, self, origin=self.path) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec")


def module_name(path: Path) -> str:
    """``src/a/b.py`` as ``a.b``."""
    return ".".join(path.relative_to("src").with_suffix("").parts).removesuffix(".__init__")


def start(mutant: Mutant, reach: Reach) -> int:
    """Starts the tests of a mutant in a fork.

    Returns:
        Its process; 0 if no test reaches the change.
    """
    tests = tests_for(mutant, reach)
    if not tests:
        return 0
    if child := os.fork():
        return child
    limit = 20 + int(10 * sum(reach.seconds[test] for test in tests))
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    code = 70
    try:
        if not exchange(mutant):
            sys.meta_path.insert(0, _Changed(mutant))  # type: ignore[arg-type]
            forget()
        code = run_tests(list(dict.fromkeys(test.partition("::")[0] for test in tests)), _Chosen(tests))
    finally:
        os._exit(code)


def run_all(mutants: Sequence[Mutant], reach: Reach, jobs: int, done: Callable[[Mutant], None]) -> None:
    """Runs the tests of all mutants, so many at a time, and notes the results."""
    running: dict[int, Mutant] = {}
    waiting = list(mutants)[::-1]
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            if child := start(mutant, reach):
                running[child] = mutant
            else:
                mutant.result = "survived"
                done(mutant)
        if running:
            child, status = os.wait()
            mutant = running.pop(child)
            code = os.waitstatus_to_exitcode(status)
            mutant.result = (
                "survived" if code == 0 else "killed" if code in FAILED else "timeout" if code < 0 else ""
            )
            if not mutant.result:
                raise SystemExit(
                    f"error: pytest ended with {code} for {mutant.path}:{mutant.line}: {mutant.change[1]}"
                )
            done(mutant)
