"""The arrows between the packages point one way: pure code imports neither Ray nor torch."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

PACKAGES = ("raytune_ahu", "schedulers", "trainables")
MAY_IMPORT_RAY = ("raytune_ahu/adapters/", "schedulers/ray_scheduler.py", "trainables/")
MAY_IMPORT_TORCH = ("trainables/",)
MAY_IMPORT_HPBANDSTER = ("raytune_ahu/search/hpbandster_engine.py",)


def imported_roots(path):
    """Root names of all modules that a file imports at run time, wherever in the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    type_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in type_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]


def files(root, package):
    found = sorted((root / package).rglob("*.py"))
    assert found, package
    return found


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("ray", MAY_IMPORT_RAY),
        ("torch", MAY_IMPORT_TORCH),
        ("torchvision", MAY_IMPORT_TORCH),
        ("hpbandster", MAY_IMPORT_HPBANDSTER),
    ],
)
def test_only_the_adapters_import_heavy_libraries(root, library, allowed):
    offenders = [
        str(path.relative_to(root))
        for package in PACKAGES
        for path in files(root, package)
        if library in set(imported_roots(path))
        and not str(path.relative_to(root)).startswith(allowed)
    ]
    assert offenders == []


def test_the_kernel_package_imports_neither_schedulers_nor_trainables(root):
    offenders = [
        str(path.relative_to(root))
        for path in files(root, "raytune_ahu")
        if {"schedulers", "trainables"} & set(imported_roots(path))
    ]
    assert offenders == []


def test_schedulers_and_trainables_do_not_know_each_other(root):
    for package, other in (("schedulers", "trainables"), ("trainables", "schedulers")):
        for path in files(root, package):
            assert other not in set(imported_roots(path)), path


def test_pure_packages_load_without_ray_or_torch():
    code = (
        "import sys, raytune_ahu.experiment, raytune_ahu.recorder, raytune_ahu.search,"
        " raytune_ahu.simulation, schedulers\n"
        "print(sorted({'ray', 'torch', 'hpbandster'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_package_is_listed_for_installation(root):
    listed = (root / "pyproject.toml").read_text(encoding="utf-8")
    for package in PACKAGES:
        for path in (root / package).rglob("__init__.py"):
            name = ".".join(path.parent.relative_to(root).parts)
            assert f'"{name}"' in listed, name
