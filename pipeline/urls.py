"""URLs where the command line and the library take one: well-formed, and without credentials."""

from __future__ import annotations

import re

from . import UserError

BUCKETS = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory")
OTHERS = ("file", "local", "http", "https", "ftp", "sftp", "hdfs")
LOCAL = ("file", "local")  # whose URL is a path on this machine
CONTAINER_AT_ACCOUNT = ("abfs", "abfss", "az", "adl")  # whose `name@host` is no user


def is_url(place: str) -> bool:
    """Whether this means a URL, well-formed or not, and no folder; `C:\\vectors` is a folder."""
    scheme, colon, _ = place.strip().partition(":")
    return bool(colon) and ("://" in place or scheme.lower() in (*BUCKETS, *OTHERS))


def checked_url(url: str, option: str) -> str:
    """The URL of a place for objects, its scheme in small letters and without a slash at the end.

    Raises UserError for one that names no bucket, or that carries a user, a key or a query: it would be printed and
    stored. The error does not repeat those.
    """
    scheme, colon, rest = url.strip().partition("://")
    scheme = scheme.lower()
    if not colon or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        start = re.split(r"[:@?/]", url.strip())[0]
        raise UserError(f"{option} {start}:…: no URL; pass {start.lower() or 's3'}://bucket/prefix or a folder")
    host, _, path = rest.partition("/")
    user, at, host = host.rpartition("@")
    if (at and (scheme not in CONTAINER_AT_ACCOUNT or ":" in user)) or re.search(r":(?!\d+$)", host) or "?" in rest:
        raise UserError(
            f"{option} {scheme}://…: carries a user, a key or a query, which would be printed and stored; pass "
            f"{scheme}://bucket/prefix, and credentials in the environment or in the provider's own file"
        )
    if not (path.strip("/") if scheme in LOCAL else host.strip()):
        raise UserError(f"{option} {scheme}://: names no bucket; pass {scheme}://bucket/prefix or a folder")
    return f"{scheme}://{rest}".rstrip("/")
