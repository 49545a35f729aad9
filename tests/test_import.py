"""``import jtr_lightning`` is cheap, and its lazy names are the ones that type checkers see."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import jtr_lightning
import jtr_lightning.data


def test_import_brings_in_none_of_the_heavy_packages() -> None:
    code = (
        "import sys, jtr_lightning;"
        "heavy = {'torch', 'lightning', 'wandb', 'matplotlib', 'albumentations',"
        " 'segmentation_models_pytorch'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_modules_import_neither_logger_nor_augmentation_nor_networks() -> None:
    # torchmetrics imports matplotlib where it is installed, so that one cannot be asked for here.
    modules = sorted(set(jtr_lightning._EXPORTS.values()))
    code = (
        f"import sys, importlib; [importlib.import_module(m) for m in {modules!r}];"
        "heavy = {'wandb', 'albumentations', 'segmentation_models_pytorch'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PACKAGES = [jtr_lightning, jtr_lightning.data]
NAMES = [(package, name) for package in PACKAGES for name in sorted(package._EXPORTS)]


@pytest.mark.parametrize(("package", "name"), NAMES, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_every_lazy_name_is_the_object_of_its_module(package: ModuleType, name: str) -> None:
    module = import_module(package._EXPORTS[name])
    assert getattr(package, name) is getattr(module, name)
    assert name in dir(package)
    assert name in package.__all__


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.__name__)
def test_type_checkers_see_the_same_names_from_the_same_modules(package: ModuleType) -> None:
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    block = next(
        node
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names}
    assert seen == package._EXPORTS
    assert all(alias.asname == alias.name for node in imports for alias in node.names)


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'jtr_lightning' has no attribute 'Bach'"):
        _ = jtr_lightning.Bach
