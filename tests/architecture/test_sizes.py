"""Small files, small functions, few parameters."""

from __future__ import annotations

import ast

FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 6
COMMANDS = "cli/"  # a command has as many parameters as options; its length is that of its body


def _functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    spec = function.args
    names = [a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def test_files_are_short(texts: dict[str, str]) -> None:
    lengths = {path: len(text.splitlines()) for path, text in texts.items()}
    assert {path: n for path, n in lengths.items() if n > FILE_LINES} == {}


def test_functions_are_short(trees: dict[str, ast.Module]) -> None:
    long = {}
    for path, tree in trees.items():
        for function in _functions(tree):
            first = function.body[0].lineno if path.startswith(COMMANDS) else function.lineno
            lines = (function.end_lineno or first) - first + 1
            if lines > FUNCTION_LINES:
                long[f"{path}:{function.name}"] = lines
    assert long == {}


def test_functions_have_few_parameters(trees: dict[str, ast.Module]) -> None:
    many = {
        f"{path}:{function.name}": len(_parameters(function))
        for path, tree in trees.items()
        if not path.startswith(COMMANDS)
        for function in _functions(tree)
        if len(_parameters(function)) > PARAMETERS
    }
    assert many == {}


def test_no_function_takes_arguments_it_does_not_name(trees: dict[str, ast.Module]) -> None:
    vague = [f"{path}:{f.name}" for path, tree in trees.items() for f in _functions(tree) if f.args.kwarg is not None]
    assert vague == []
