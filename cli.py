"""The command line, from a checkout: `python cli.py extract`. Installed, it is `probe-or-tune`."""

from pipeline.command_line import cli
from pipeline.door import door, main

__all__ = ["cli", "door", "main"]

if __name__ == "__main__":
    door()
