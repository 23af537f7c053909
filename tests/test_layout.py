"""The tree keeps its promises: imports point backwards, light rooms stay light, the tree in the docs is true."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = (
    "words files untrusted metrics kinds memory urls hub data explore encoder store extract transformer run linear "
    "baseline tfidf stack cascade finetune predict verdict export task vectors estimates contenders audit disagreement "
    "fitting folds fold_fitting learning_curve report doctor trackers comparison show options stages api "
    "command_line door"
).split()
LIGHT = "words files untrusted metrics kinds memory urls store run".split()  # neither torch nor a room above them


def module_of(path: Path, node: ast.ImportFrom) -> str:
    """The dotted name that `from X import` names, X relative or not."""
    package = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
    return ".".join([*package, *([node.module] if node.module else [])])


def imports(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, anywhere in it, for its types alone included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = module_of(path, node)
            names |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return names


def files(room: str) -> list[Path]:
    """A room is a module, or a folder of them."""
    home = ROOT / "pipeline" / room
    return sorted(home.glob("*.py")) if home.is_dir() else [home.with_suffix(".py")]


def uses(room: str) -> set[str]:
    """The other rooms that a room imports."""
    found = {name.split(".")[1] for path in files(room) for name in imports(path) if name.startswith("pipeline.")}
    return (found & set(ORDER)) - {room}


def rooms() -> set[str]:
    """Every room that there is."""
    home = ROOT / "pipeline"
    return {p.stem for p in home.glob("[!_]*.py")} | {p.parent.name for p in home.glob("*/__init__.py")}


def test_every_room_has_its_place():
    assert rooms() == set(ORDER)


@pytest.mark.parametrize("room", ORDER)
def test_imports_point_backwards(room):
    assert uses(room) <= set(ORDER[: ORDER.index(room)])


def test_no_file_imports_what_imports_it():
    paths = {path: path.relative_to(ROOT).with_suffix("").parts for path in (ROOT / "pipeline").rglob("*.py")}
    names = {".".join(parts).removesuffix(".__init__"): path for path, parts in paths.items()}
    uses = {name: files_used(path) & set(names) - {name, "pipeline"} for name, path in names.items()}
    ready: set[str] = set()
    while waiting := set(names) - ready:
        free = {name for name in waiting if uses[name] <= ready}
        assert free, f"each imports another of them: {sorted(waiting)}"
        ready |= free


def files_used(path: Path) -> set[str]:
    """The modules that a file names in its imports: of `from a import b`, a.b if that is one, else a."""
    named = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (module := module_of(path, node)).startswith("pipeline"):
            home = ROOT.joinpath(*module.split("."))
            inner = {a.name for a in node.names if (home / a.name).is_dir() or (home / f"{a.name}.py").exists()}
            named |= {f"{module}.{name}" for name in inner}
            named |= {module} if inner != {a.name for a in node.names} else set()
    return named


def test_imports_within_the_package_are_relative():
    """Installed, the package has another name."""
    pattern = re.compile(r"^\s*(?:from|import) (?:pipeline|probe_or_tune)\b|[\"']pipeline\.\w", re.M)
    named = {path.name: pattern.findall(path.read_text("utf-8")) for path in (ROOT / "pipeline").rglob("*.py")}
    assert {name: lines for name, lines in named.items() if lines} == {}


@pytest.mark.parametrize("room", LIGHT)
def test_light_rooms_import_neither_torch_nor_a_room_above(room):
    assert uses(room) <= set(LIGHT)
    assert not {
        name for path in files(room) for name in imports(path) if name.split(".")[0] in ("torch", "transformers")
    }


def test_help_loads_nothing_heavy():
    code = (
        "import sys, cli; cli.main(['fit-lr', '--help']); cli.main(['--help']);"
        "print(sorted({'torch', 'transformers', 'sklearn', 'datasets', 'numpy', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_tree_names_every_room_and_no_other():
    tree = (ROOT / "docs" / "extending.md").read_text("utf-8").split("## The tree")[1].split("\n## ")[0]
    named = {name.rstrip("/").removesuffix(".py") for name in re.findall(r"^  ([\w.]+/?)\s", tree, re.M)}
    assert named - {"__init__", "samples"} == rooms()


def test_public_names_are_there():
    import pipeline

    for name in pipeline.PUBLIC:
        assert getattr(pipeline, name).__doc__, name
    with pytest.raises(AttributeError):
        _ = pipeline.nonsense
