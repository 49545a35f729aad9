"""What a newcomer meets before any of our code runs: make, the installation and its bounds."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points, packages_distributions, version
from pathlib import Path

import pytest

from jtr_lightning import __version__

ROOT = Path(__file__).parents[1]


def _install(venv: Path, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(ROOT / "scripts" / "install.sh"), str(venv)],
        env={**os.environ, "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_installed_version_is_the_one_of_the_source() -> None:
    assert version("jtr-lightning") == __version__


def test_jtr_is_the_dispatcher() -> None:
    (script,) = entry_points(group="console_scripts", name="jtr")
    assert script.value == "jtr_lightning.cli.main:main"


def test_types_are_shipped() -> None:
    assert (ROOT / "src" / "jtr_lightning" / "py.typed").is_file()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_alone_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", text, flags=re.MULTILINE)
    assert phony is not None
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    described = dict(re.findall(r"^  make (\S+) +(\S.*)$", done.stdout, flags=re.MULTILINE))
    assert set(described) == set(phony[1].split())


def test_continuous_integration_runs_what_the_readme_promises() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    steps = re.findall(
        r"^step (\S+)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    first_block = re.search(r"```sh\n(.*?)```", readme, flags=re.DOTALL)
    assert first_block is not None
    commands = re.findall(r"^make (\S+)", first_block[1], flags=re.MULTILINE)
    assert commands == ["demo", "test"]
    # `test-all` are those of `test` and the slow ones.
    assert {"demo", "test-all", "lint", "type-check", "docs"} <= set(steps)


def test_install_without_the_named_python_is_one_sentence(tmp_path: Path) -> None:
    done = _install(tmp_path / "venv", "no-such-python")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no 'no-such-python'; install Python 3.10 or newer")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "venv").exists()


def test_install_with_an_old_python_is_one_sentence(tmp_path: Path) -> None:
    old = tmp_path / "old python"
    old.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1 && exit 0\nexit 1\n', encoding="utf-8"
    )
    old.chmod(0o755)
    done = _install(tmp_path / "venv", str(old))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: Python 3.10 or newer is needed, '{old}' is Python 3.9.1;")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "venv").exists()


def _requirements() -> dict[str, list[str]]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    sections = {"install_requires": parser["options"]["install_requires"], **parser["options.extras_require"]}
    return {name: value.split("\n")[1:] for name, value in sections.items()}


def test_every_requirement_has_a_lower_bound_and_none_is_pinned() -> None:
    # The first two follow the packages that they describe, the last one is another extra of this file.
    unbounded = {"types-PyYAML", "types-tqdm", "jtr-lightning[docs]"}
    for name, requirements in _requirements().items():
        for requirement in requirements:
            assert "==" not in requirement, f"{name}: {requirement}"
            if name != "all" and requirement not in unbounded:
                assert re.match(r"[A-Za-z0-9_.-]+(\[[a-z0-9,-]+\])?>=\d", requirement), (
                    f"{name}: {requirement}"
                )


def test_every_bound_of_the_library_has_its_reason_above_it() -> None:
    lines = (ROOT / "setup.cfg").read_text(encoding="utf-8").splitlines()
    start = lines.index("install_requires =")
    block = lines[start + 1 : lines.index("", start)]
    bounds = [number for number, line in enumerate(block) if not line.lstrip().startswith("#")]
    assert len(bounds) == len(_requirements()["install_requires"])
    without_reason = [block[number].strip() for number in bounds if number == 0 or number - 1 in bounds]
    assert without_reason == []


def test_every_package_that_is_imported_is_listed() -> None:
    imported: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    names = [re.match(r"[A-Za-z0-9_.-]+", line) for lines in _requirements().values() for line in lines]
    listed = {_plain(name[0]) for name in names if name}
    distributions = packages_distributions()
    others = imported - set(sys.stdlib_module_names) - {"jtr_lightning"}
    assert {"timm", "torch", "yaml"} <= others
    missing = {name for name in others if not {_plain(d) for d in distributions.get(name, [name])} & listed}
    assert missing == set()


def _plain(distribution: str) -> str:
    """The name as packages are compared."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_the_extra_all_holds_every_other_extra_but_those_of_contributors() -> None:
    requirements = _requirements()
    (everything,) = requirements["all"]
    listed = set(everything.removeprefix("jtr-lightning[").removesuffix("]").split(","))
    assert listed == set(requirements) - {"install_requires", "all", "dev", "docs"}
