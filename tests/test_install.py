"""The wheel, beside a user's own modules of common names."""

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOSTILE = "raise SystemExit('the user's own {name} was imported')\n"


def packages() -> list[str]:
    """Every package of the tree, by its installed name."""
    homes = sorted(path.parent.relative_to(ROOT).parts[1:] for path in (ROOT / "pipeline").rglob("__init__.py"))
    return [".".join(["probe_or_tune", *parts]) for parts in homes]


def test_setup_names_every_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    assert sorted(setup["options"]["packages"].split()) == packages()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """What the wheel puts into site-packages."""
    home = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "pipeline", home / "source" / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, home / "source")
    pip = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--quiet"]
    done = subprocess.run(
        [*pip, "--no-cache-dir", "--wheel-dir", str(home)],
        cwd=home / "source",
        env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = home.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(home / "site")
    return home / "site"


@pytest.fixture
def python(site, tmp_path):
    """Run Python where the user's own `pipeline.py` and `cli.py` lie."""
    for name in ("pipeline", "cli"):
        (tmp_path / f"{name}.py").write_text(HOSTILE.format(name=name))

    def run(*words: str) -> str:
        environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{site}"}
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_wheel_puts_one_name_at_the_top(site):
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {"probe_or_tune"}
    assert (site / "probe_or_tune" / "samples" / "sms-spam").is_dir()
    assert (site / "probe_or_tune" / "py.typed").is_file()  # a type checker reads the annotations
    (info,) = site.glob("*.dist-info")
    assert "probe-or-tune = probe_or_tune.door:door" in (info / "entry_points.txt").read_text("utf-8")


def test_installed_it_works_beside_modules_of_those_names(python, tmp_path, tiny_distilbert):
    assert "SOURCE" in python("-m", "probe_or_tune", "--help")
    words = ["sms-spam", "--rows", "first:200", "--contenders", "majority,tfidf", "--encoder", str(tiny_distilbert)]
    assert '"recommended"' in python("-m", "probe_or_tune", "compare", *words, "--json")
    (run,) = tmp_path.glob("runs/*/tfidf-*")
    assert '"label"' in python("-m", "probe_or_tune", "predict", str(run), "win a prize")
    python("-m", "probe_or_tune", "export", str(run), "--format", "joblib", "--out", "served")
    (file,) = tmp_path.glob("served/*.joblib")
    code = f"import joblib; print(joblib.load({str(file)!r}).predict(['win a prize now']))"
    assert "ham" in python("-c", code) or "spam" in python("-c", code)


def test_every_module_of_the_wheel_can_be_imported(python):
    code = """
import importlib, pkgutil, probe_or_tune
skipped = ("probe_or_tune.__main__",)
for module in pkgutil.walk_packages(probe_or_tune.__path__, "probe_or_tune."):
    if module.name not in skipped:
        importlib.import_module(module.name)
import sys
print(sorted({"pipeline", "cli"} & set(sys.modules)))
"""
    assert python("-c", code).splitlines()[-1] == "[]"


@pytest.mark.parametrize("form", ["joblib", "skops"])
def test_what_a_checkout_exports_opens_beside_a_module_named_pipeline(form, python, tmp_path, tiny_distilbert):
    places = ["--cache", str(tmp_path / "cache")]
    source = ["sms-spam", "--rows", "first:200", "--encoder", str(tiny_distilbert), "--runs", str(tmp_path / "runs")]
    for words in (["fit-lr", *source], ["export", "RUN", "--format", form, "--out", str(tmp_path / "served")]):
        run = [str(path) for path in tmp_path.glob("runs/*/lr-*")]
        command = [sys.executable, "cli.py", *[run[0] if word == "RUN" else word for word in words], *places]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob(f"served/*.{form}")
    trusted = ["probe_or_tune.transformer.FrozenEncoder"]
    load = {
        "joblib": f"import joblib; model = joblib.load({str(file)!r})",
        "skops": f"import skops.io; model = skops.io.load({str(file)!r}, trusted={trusted})",
    }
    assert python("-c", f"{load[form]}; print(model.predict(['win a prize now']))").strip() in ("['ham']", "['spam']")
