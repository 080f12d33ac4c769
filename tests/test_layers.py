"""Arrows between the packages point down only, and no import goes round in a circle.

Imports are read from the source, those inside functions included.
"""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("cifar_core", "tune_experiments", "analysis")
FORBIDDEN = {
    "cifar_core": {"ray", "optuna", "tune_experiments", "analysis"},
    "tune_experiments": {"analysis"},
    "analysis": {"ray", "torch", "torchvision"},
}
MAY_USE_TORCH = {"analysis.best_model"}
FREE_OF_TORCH_AND_RAY = ("tune_experiments.records", "tune_experiments.ledger", "tune_experiments.early_stopping")


@cache
def files() -> dict[str, Path]:
    """All modules of the three packages, by their dotted names."""
    found = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def statements(node: ast.AST, inside_functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif inside_functions or not runs_later_or_never(child):
            yield from statements(child, inside_functions)


def runs_later_or_never(node: ast.AST) -> bool:
    """Whether importing the module passes by: a function's body, or what only a type checker reads."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def imports(module: str, inside_functions: bool = True) -> set[str]:
    """What a module imports: our modules by their full names, others by their top one."""
    found: set[str] = set()
    for statement in statements(ast.parse(files()[module].read_text(encoding="utf-8")), inside_functions):
        if isinstance(statement, ast.Import):
            found |= {name.name for name in statement.names}
        else:
            assert statement.level == 0, f"{module}: a relative import"
            assert statement.module is not None
            inner = {f"{statement.module}.{name.name}" for name in statement.names}
            found |= (inner & files().keys()) or {statement.module}
    return {name if name in files() else name.split(".")[0] for name in found}


def reached(module: str) -> set[str]:
    """All that is imported when the module is: its own imports and those of our modules, but for late ones."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        for name in imports(waiting.pop(), inside_functions=False) - seen:
            seen.add(name)
            waiting += [name] if name in files() else []
    return seen


def top(names: Iterable[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def test_modules_and_imports_are_found() -> None:
    assert {"cifar_core.train", "tune_experiments.searcher", "tune_experiments"} <= files().keys()
    assert {"ray", "cifar_core.train"} <= imports("tune_experiments.trainable")
    assert "torchvision" in imports("cifar_core.datasets")
    assert "torchvision" not in imports("cifar_core.datasets", inside_functions=False)
    assert "torch" in reached("tune_experiments.trainable")


@pytest.mark.parametrize("module", files())
def test_arrows_point_down(module: str) -> None:
    if module not in MAY_USE_TORCH:
        assert not top(imports(module)) & FORBIDDEN[module.split(".")[0]]


def test_there_is_no_import_cycle() -> None:
    graph = {module: imports(module) & files().keys() for module in files()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(files())  # raises CycleError, which names it


@pytest.mark.parametrize(
    "module",
    [*FREE_OF_TORCH_AND_RAY, *(name for name in files() if name.startswith("analysis") and name not in MAY_USE_TORCH)],
)
def test_reading_an_experiment_needs_neither_torch_nor_ray(module: str) -> None:
    assert not reached(module) & {"torch", "torchvision", "ray"}


def test_nothing_slow_is_imported_before_it_is_needed() -> None:
    late = {"torchvision", "albumentations"}
    assert {module for module in files() if reached(module) & late} == set()
