"""Files that appear whole or not at all."""

import contextlib
import os
import time

import pytest

from pipeline import UserError
from pipeline.files import disk_errors, draft, publish, sweep

OLD, BUSY, NEW = (f".draft-{letter * 16}" for letter in "abc")


def test_a_block_that_fails_leaves_the_former_file_and_no_draft(tmp_path):
    path = tmp_path / "a.json"
    publish(path, b"first")
    with contextlib.suppress(KeyError), draft(path) as new:
        new.write_bytes(b"second")
        raise KeyError
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a.json"]


def test_nothing_appears_before_the_block_ends(tmp_path):
    path = tmp_path / "a.json"
    with draft(path) as new:
        new.write_bytes(b"second")
        assert not path.exists()
        assert new.suffix == ".json"
        assert new.name.startswith(".")
    assert path.read_bytes() == b"second"


def test_a_folder_is_published_whole_and_takes_an_empty_ones_place(tmp_path):
    (tmp_path / "model").mkdir()
    with draft(tmp_path / "model") as new:
        (new / "deep").mkdir(parents=True)
        (new / "deep" / "a").write_bytes(b"a")
    assert (tmp_path / "model" / "deep" / "a").read_bytes() == b"a"
    with pytest.raises(OSError), draft(tmp_path / "model") as new:  # noqa: PT011 the system's own, of many numbers
        new.mkdir()
    assert os.listdir(tmp_path) == ["model"]


def test_a_refusing_disk_is_one_line_with_the_next_step(tmp_path):
    with pytest.raises(UserError) as caught, disk_errors("out.csv", "cannot write", "choose another --out"):
        publish(tmp_path / "missing" / "a", b"")
    assert str(caught.value) == "out.csv: cannot write (No such file or directory); choose another --out"
    with (
        pytest.raises(UserError, match=r"x: cannot write \(full\); y"),
        disk_errors("x", "cannot write", "y", (ValueError,)),
    ):
        raise ValueError("full")
    with pytest.raises(KeyError), disk_errors("x", "cannot write", "y"):
        raise KeyError("ours")


def test_only_what_nobody_has_written_to_for_a_day_is_swept(tmp_path):
    old = time.time() - 25 * 3600
    for name in (OLD, BUSY, NEW, "kept", ".draft-of-a-letter"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"")
    for path in [*tmp_path.rglob("*"), *tmp_path.glob("*")]:
        if NEW not in str(path) and path != tmp_path / BUSY / "file":
            os.utime(path, (old, old))
    assert sweep(tmp_path) == (OLD,)
    assert sorted(os.listdir(tmp_path)) == sorted([BUSY, NEW, ".draft-of-a-letter", "kept"])


@pytest.mark.parametrize(
    "name", [".draft-0123456789abcdef", ".draft-0123456789abcdef.tar.gz", ".draft-01234567-out.csv"]
)
def test_the_next_draft_sweeps_what_a_killed_process_left_beside_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / name, (0, 0))
    (tmp_path / f"x{name}").write_bytes(b"")
    os.utime(tmp_path / f"x{name}", (0, 0))
    publish(tmp_path / "a.json", b"first")
    assert sorted(os.listdir(tmp_path)) == ["a.json", f"x{name}"]
