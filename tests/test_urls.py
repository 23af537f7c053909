"""URLs are refused where they name no bucket or carry a secret, and the refusal does not repeat the secret."""

import os

import pytest

from pipeline import FrozenEncoder, UserError
from pipeline.store import Store
from pipeline.store.remote import mirror
from pipeline.urls import checked_url, is_url


@pytest.mark.parametrize(
    ("place", "means"),
    [
        ("s3://bucket/prefix", True),
        ("S3://bucket", True),
        ("s3:/bucket", True),
        ("s3:bucket", True),
        ("gs://", True),
        ("file:///tmp/x", True),
        ("odd://x", True),
        ("cache", False),
        ("./s3/x", False),
        ("/tmp/a:b", False),
        ("C:\\vectors", False),
        ("owner/name:config", False),
    ],
)
def test_what_is_meant_as_a_url(place, means):
    assert is_url(place) is means


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
        (" S3://Bucket/Prefix ", "s3://Bucket/Prefix"),
        ("s3://bucket", "s3://bucket"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
        ("file:///tmp/cache", "file:///tmp/cache"),
        ("hdfs://host:8020/x", "hdfs://host:8020/x"),
        ("s3://bucket/a@b/c", "s3://bucket/a@b/c"),
    ],
)
def test_a_good_url_stays(url, same):
    assert checked_url(url, "--cache") == same


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///",
        "s3:///prefix",
        "s3:// /prefix",
        "gs://",
        "memory://",
        "file://",
        "file:///",
        "://bucket",
        "s3:/bucket",
        "s3:bucket",
    ],
)
def test_a_url_without_a_bucket_is_refused(url):
    with pytest.raises(UserError, match=r"--cache .*; pass \w+://bucket/prefix or a folder"):
        checked_url(url, "--cache")


SECRETS = [
    "s3://AKIAUSER:hunter2@bucket/prefix",
    "s3://AKIAUSER@bucket/prefix",
    "s3://AKIAUSER:hun/ter2@bucket/prefix",
    "gs://hunter2@bucket",
    "abfs://container:hunter2@account/x",
    "https://user:hunter2@host/x",
    "s3://bucket/prefix?X-Amz-Signature=hunter2",
    "s3:AKIAUSER:hunter2@bucket",
]


@pytest.mark.parametrize("url", SECRETS)
def test_a_secret_is_refused_and_not_repeated(url, tmp_path, monkeypatch, capsys):
    import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with pytest.raises(UserError) as refused:
        mirror(url)
    assert cli.main(["cache", "ls", "--cache", url]) == 1
    said = str(refused.value) + "".join(capsys.readouterr())
    assert not [secret for secret in ("hunter2", "hun/", "ter2", "AKIAUSER") if secret in said]
    assert cli.main(["extract", url, "--cache", str(tmp_path / "cache")]) == 1
    assert "hunter2" not in "".join(capsys.readouterr())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("option", ["--cache", "--runs"])
def test_no_folder_is_made_of_a_url(option, tmp_path, monkeypatch, capsys):
    import cli

    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "sms-spam", option, "s3://"]) in (1, 2)
    assert option in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_the_library_makes_none_either(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="a URL is no folder"):
        Store("s3://bucket/enc")
    with pytest.raises(UserError, match="names no bucket"):
        FrozenEncoder("minilm", cache_dir="s3://").fit_transform(["a text"])
    assert os.listdir(tmp_path) == []
