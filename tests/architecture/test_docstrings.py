"""Whatever is public says what it is."""

from __future__ import annotations

import ast

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _public(name: str) -> bool:
    return not name.startswith("_")


def _abstract(trees: dict[str, ast.Module]) -> set[str]:
    """Return the names of methods that an abstract class has explained already, and torch's own."""
    return {"forward"} | {
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, Function) and any(isinstance(d, ast.Name) and d.id == "abstractmethod" for d in node.decorator_list)
    }


def _undocumented(body: list[ast.stmt], inherited: set[str]) -> list[str]:
    """Return the public names of a module's or class's body that lack a docstring."""
    found: list[str] = []
    for node in body:
        if isinstance(node, ast.ClassDef) and _public(node.name):
            found += [] if ast.get_docstring(node) else [node.name]
            found += [f"{node.name}.{name}" for name in _undocumented(node.body, inherited if node.bases else set())]
        elif isinstance(node, Function) and _public(node.name) and node.name not in inherited and not ast.get_docstring(node):
            found.append(node.name)
    return found


def test_public_things_have_a_docstring(trees: dict[str, ast.Module]) -> None:
    inherited = _abstract(trees)
    missing = [f"{path}:{name}" for path, tree in trees.items() for name in _undocumented(tree.body, inherited)]
    assert missing == []


def test_modules_have_a_docstring(trees: dict[str, ast.Module]) -> None:
    assert [path for path, tree in trees.items() if not ast.get_docstring(tree)] == []


def test_a_method_says_what_it_is_made_after(trees: dict[str, ast.Module]) -> None:
    parts = ("Idea", "Paper", "Here", "Deviations")
    lacking = {
        path: [part for part in parts if part not in (ast.get_docstring(tree) or "")]
        for path, tree in trees.items()
        if path.startswith("methods/") and path not in ("methods/__init__.py", "methods/method.py")
    }
    assert {path: missing for path, missing in lacking.items() if missing} == {}
