"""The tree's limits: 350 lines a file, 50 lines a function, 6 parameters."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

Function = ast.FunctionDef | ast.AsyncFunctionDef
ROOT = Path(__file__).parent.parent
FILE_LINES, FUNCTION_LINES, PARAMETERS = 350, 50, 6

# What breaks a limit today, and by how much. This may only shrink: nothing is added, no number grows, and what no
# longer breaks a limit leaves the list.
LISTED = {
    "lines of a file": {},
    "lines of a function": {},
    "parameters": {},
}


def functions(tree: ast.AST, estimator: bool = False) -> Iterator[tuple[Function, bool]]:
    """Every function below `tree`, and whether it belongs to a scikit-learn estimator."""
    for node in ast.iter_child_nodes(tree):
        inner = estimator
        if isinstance(node, ast.ClassDef):
            inner = any("BaseEstimator" in ast.unparse(base) for base in node.bases)
        elif isinstance(node, Function):
            yield node, estimator
        yield from functions(node, inner)


def parameters(function: Function) -> int:
    """How many it takes, `self` aside; `*rest` and `**settings` count as one each."""
    a = function.args
    names = [
        argument.arg for argument in (*a.posonlyargs, *a.args, *a.kwonlyargs) if argument.arg not in ("self", "cls")
    ]
    return len(names) + (a.vararg is not None) + (a.kwarg is not None)


def measured(name: str, text: str) -> dict[str, dict[str, int]]:
    """Limit → what breaks it in a file, with its measure."""
    broken: dict[str, dict[str, int]] = {limit: {} for limit in LISTED}
    if (lines := len(text.splitlines())) > FILE_LINES:
        broken["lines of a file"][name] = lines
    for function, of_estimator in functions(ast.parse(text)):
        where = f"{name} {function.name}"
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES:
            broken["lines of a function"][where] = lines
        protocol = of_estimator and function.name == "__init__"  # scikit-learn wants each hyperparameter by its name
        if not protocol and (count := parameters(function)) > PARAMETERS:
            broken["parameters"][where] = count
    return broken


@pytest.fixture(scope="module")
def broken() -> dict[str, dict[str, int]]:
    """Limit → everything in the tree that breaks it."""
    paths = [ROOT / "cli.py", *sorted((ROOT / "pipeline").rglob("*.py"))]
    files = [measured(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in paths]
    return {limit: {where: n for of in files for where, n in of[limit].items()} for limit in LISTED}


@pytest.mark.parametrize("limit", LISTED)
def test_nothing_new_breaks_a_limit_and_nothing_listed_grows(broken, limit):
    assert {where: n for where, n in broken[limit].items() if n > LISTED[limit].get(where, 0)} == {}


@pytest.mark.parametrize("limit", LISTED)
def test_what_no_longer_breaks_a_limit_leaves_the_list(broken, limit):
    assert set(LISTED[limit]) - set(broken[limit]) == set()


SAMPLE = """
class A(BaseEstimator):
    def __init__(self, a, b, c, d, e, f, g): ...
    def m(self, a, *b, c=1, **d): ...
class B:
    def __init__(self, a, b, c, d, e, f, *, g): ...
def long():
"""


def test_what_is_measured():
    assert measured("x.py", SAMPLE + "    x = 1\n" * 50) == {
        "lines of a file": {},
        "lines of a function": {"x.py long": 51},
        "parameters": {"x.py __init__": 7},
    }
    assert measured("x.py", "\n" * 351)["lines of a file"] == {"x.py": 351}
