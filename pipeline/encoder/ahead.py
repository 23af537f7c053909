"""An encoder converted in a process of its own, while this one does what reads no vectors."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from .. import log
from .checkpoint import Checkpoint
from .converted import converted

# -P and this process's own path: the other one imports what this one would, nothing that lies in its folder
CALL = "import pickle, sys; given = sys.stdin.buffer; sys.path[:] = pickle.load(given); pickle.load(given)()"


@contextmanager
def converting(checkpoint: Checkpoint, poolings: tuple[str, ...], cache: Path) -> Iterator[Callable[[], Any]]:
    """Begin to convert an encoder for `poolings`; what it yields waits until that has ended, one way or another.

    Whoever opens the encoder finds the conversion in `cache`, or makes it, and says what is wrong with it: if this
    fails, or is left early, nothing but time is lost. It has one processor, so that the fits beside it have the rest.
    """
    given = pickle.dumps(sys.path) + pickle.dumps(partial(converted, checkpoint, poolings, cache))
    nothing = subprocess.DEVNULL
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", CALL],
            stdin=subprocess.PIPE,
            stdout=nothing,
            stderr=nothing,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for this process, which ends the other
        )
    except OSError as error:
        log.debug("no process beside this one: %s", error)
        yield lambda: None
        return
    log.info("%s: converted for OpenVINO and compared with torch meanwhile, once for this cache", checkpoint.name)
    assert child.stdin is not None, "it has a pipe"
    with child:
        try:
            with suppress(OSError), child.stdin:  # it may be gone before it has read all
                child.stdin.write(given)
            yield child.wait
        finally:
            child.kill()
