"""What a cache on S3 costs in requests, for 100,000 rows: written, opened elsewhere, looked up, read.

    python benchmarks/remote_requests.py            # seconds; results in benchmarks/results/remote.json

Against a server of this process's own (moto) that counts them. Bytes are of vectors of 384 numbers in float32.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.store import Store, Writer
from pipeline.store.remote import mirror

RESULTS = Path(__file__).parent / "results" / "remote.json"
DIM, LIMIT = 384, 512


class Counting:
    """moto's S3 server, whose requests and bytes are counted by method."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would tell every request
        self.requests: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        application = server._server.app  # type: ignore[union-attr]

        def counted(environ: dict[str, Any], respond: Any) -> Any:
            query = environ.get("QUERY_STRING", "")
            method = "LIST" if "list-type=2" in query else environ["REQUEST_METHOD"]
            self.requests[method] += 1
            self.bytes["in"] += int(environ.get("CONTENT_LENGTH") or 0)
            body = list(application(environ, respond))
            self.bytes["out"] += sum(map(len, body))
            return body

        server._server.app = counted  # type: ignore[union-attr]
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def taken(self) -> dict[str, Any]:
        """What has been counted since the last time."""
        found = {"requests": dict(self.requests), "megabytes_out": self.bytes["out"] / 1e6}
        found["megabytes_in"] = self.bytes["in"] / 1e6
        self.requests.clear()
        self.bytes.clear()
        return found


@click.command()
@click.option("--rows", default=100_000)
def main(rows: int) -> None:
    import s3fs

    with tempfile.TemporaryDirectory() as home:
        os.environ["XDG_CACHE_HOME"] = f"{home}/writer"
        server = Counting()
        s3fs.S3FileSystem().mkdir("vectors")
        server.taken()
        random = np.random.default_rng(0)
        whole = random.integers(0, 2**64, (rows, 2), np.uint64)
        store = Store(mirror("s3://vectors/cache") / "enc")
        steps = {"open an empty one": server.taken()}
        with Writer(store, LIMIT, seconds=1e9) as writer:
            for first in range(0, rows, 256):
                some = whole[first : first + 256]
                writer.add(some, np.full(len(some), 20), random.standard_normal((len(some), DIM), np.float32), 0.1)
        steps["write all rows"] = server.taken()
        os.environ["XDG_CACHE_HOME"] = f"{home}/reader"
        store = Store(mirror("s3://vectors/cache") / "enc")
        assert store.missing(whole, LIMIT).size == 0
        steps["open elsewhere, look all up"] = server.taken()
        assert store.serve(whole, LIMIT).present.all()
        steps["read all vectors"] = server.taken()
        again = Store(mirror("s3://vectors/cache") / "enc")
        assert again.serve(whole, LIMIT).present.all()
        steps["open again, read again"] = server.taken()
    for name, step in steps.items():
        click.echo(f"{name}: {json.dumps(step)}")
    RESULTS.write_text(json.dumps({"rows": rows, "dim": DIM, "steps": steps}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
