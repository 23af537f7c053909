"""The tree keeps its promises: imports point backwards, the light rooms stay light, README tells the truth."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = (
    "data explore batching checkpoint encoder store extract run linear baseline finetune predict export contenders "
    "compare curve audit report contest doctor show"
).split()
LIGHT = ("batching", "store", "run")  # neither torch nor a sibling


def imports(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, anywhere in it (TYPE_CHECKING blocks left out)."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def rooms(path: Path) -> set[str]:
    """Modules of the package that a file imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("pipeline.")} & set(ORDER)


MODULES = sorted((ROOT / "pipeline").glob("[!_]*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_point_backwards(path):
    assert path.stem in ORDER, f"give {path.stem} its place in ORDER"
    earlier = set(ORDER[: ORDER.index(path.stem)])
    assert rooms(path) <= earlier


@pytest.mark.parametrize("name", LIGHT)
def test_light_rooms_import_neither_torch_nor_a_sibling(name):
    path = ROOT / "pipeline" / f"{name}.py"
    assert rooms(path) == set()
    assert not {i for i in imports(path) if i.split(".")[0] in ("torch", "transformers")}


def test_help_loads_nothing_heavy():
    code = (
        "import sys, cli; cli.main(['fit-lr', '--help']); cli.main(['--help']);"
        "print(sorted({'torch', 'transformers', 'sklearn', 'datasets', 'numpy', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_readme_tree_names_every_room():
    readme = (ROOT / "README.md").read_text("utf-8")
    named = set(re.findall(r"^\s+(\w+)\.py\s", readme, re.M))
    assert {path.stem for path in MODULES} <= named
    assert named - {"cli", "__init__"} <= {path.stem for path in MODULES}
