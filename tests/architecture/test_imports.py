"""What may be imported where, beyond the order of layers, which `lint-imports` checks."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

# These cost seconds or are rarely needed: they are imported where they are used.
LAZY = {"monai", "matplotlib", "jinja2", "tensorboard", "jaxtyping", "beartype", "ray", "onnx", "onnxruntime", "openvino"}
PICKLING = {"pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}
DICOM = {"pydicom", "highdicom", "pynetdicom"}
PICKLED_TENSORS = {"torch.load", "torch.save"}
# What is imported under another name than it is installed by.
INSTALLED_AS = {"ants": "antspyx"}
# Things are looked up by import, never by string.
STRING_MAGIC = {
    "globals",
    "locals",
    "eval",
    "exec",
    "__import__",
    "import_module",
    "importlib.import_module",
    "pkgutil.iter_modules",
}


def _imports(nodes: Iterator[ast.AST] | list[ast.stmt]) -> set[str]:
    """Return the full names that import statements among these nodes bring in."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _all_imports(tree: ast.Module) -> set[str]:
    return _imports(ast.walk(tree))


def _tops(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def _called(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call whose function is a dotted name, with that name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield ast.unparse(node.func), node


def test_domain_needs_python_alone(trees: dict[str, ast.Module]) -> None:
    foreign = {
        path: sorted(
            name
            for name in _all_imports(tree)
            if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith(("anymri.domain", "anymri.errors"))
        )
        for path, tree in trees.items()
        if path.startswith("domain/") or path == "errors.py"
    }
    assert {path: names for path, names in foreign.items() if names} == {}


def test_metrics_need_numpy_and_scipy_alone(trees: dict[str, ast.Module]) -> None:
    allowed = sys.stdlib_module_names | {"numpy", "scipy", "anymri"}
    foreign = {path: _tops(_all_imports(tree)) - allowed for path, tree in trees.items() if path.startswith("metrics/")}
    assert {path: names for path, names in foreign.items() if names} == {}


def test_whatever_is_imported_is_declared_and_pinned(root: Path, trees: dict[str, ast.Module]) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[\[<>=!~; ]", line)[0].lower() for line in project["dependencies"]}
    optional = {re.split(r"[\[<>=!~; ]", line)[0].lower() for lines in project["optional-dependencies"].values() for line in lines}
    imported = set().union(*(_tops(_all_imports(tree)) for tree in trees.values())) - sys.stdlib_module_names - {"anymri"}
    assert {INSTALLED_AS.get(name, name).lower() for name in imported} - declared - optional == set()
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert (declared | optional) - {line.split("==")[0] for line in lines} == set()


def test_only_the_dicom_modules_know_dicom(trees: dict[str, ast.Module]) -> None:
    allowed = ("volumes/dicom", "serve/")
    assert [p for p, tree in trees.items() if not p.startswith(allowed) and _tops(_all_imports(tree)) & DICOM] == []


def test_methods_do_not_know_each_other(trees: dict[str, ast.Module]) -> None:
    known = {
        path: sorted(
            name
            for name in _all_imports(tree)
            if name.startswith("anymri.methods") and not name.startswith("anymri.methods.method.")
        )
        for path, tree in trees.items()
        if path.startswith("methods/") and path != "methods/__init__.py"
    }
    assert {path: names for path, names in known.items() if names} == {}


def test_what_is_slow_to_import_is_imported_where_it_is_used(trees: dict[str, ast.Module]) -> None:
    eager = {path: sorted(_tops(_imports(tree.body)) & LAZY) for path, tree in trees.items()}
    assert {path: names for path, names in eager.items() if names} == {}


def test_pictures_have_no_global_state(trees: dict[str, ast.Module]) -> None:
    assert [path for path, tree in trees.items() if any("pyplot" in name for name in _all_imports(tree))] == []


def test_nothing_is_pickled(trees: dict[str, ast.Module]) -> None:
    importing = [path for path, tree in trees.items() if _tops(_all_imports(tree)) & PICKLING]
    calling = [
        f"{path}:{call.lineno}: {name}"
        for path, tree in trees.items()
        for name, call in _called(tree)
        if name in PICKLED_TENSORS or any(keyword.arg == "allow_pickle" for keyword in call.keywords)
    ]
    assert importing + calling == []


def test_nothing_is_looked_up_by_a_string(trees: dict[str, ast.Module]) -> None:
    magic = [
        f"{path}:{call.lineno}: {name}"
        for path, tree in trees.items()
        if path != "__init__.py"  # public names are imported on first use there
        for name, call in _called(tree)
        if name in STRING_MAGIC
    ]
    assert magic == []


def test_values_do_not_change(trees: dict[str, ast.Module]) -> None:
    mutable = [
        f"{path}: {node.name}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        if not node.name.startswith("_")  # what one function gathers in and throws away may change
        for decorator in node.decorator_list
        if "dataclass" in ast.unparse(decorator) and "frozen=True" not in ast.unparse(decorator)
    ]
    assert mutable == []
