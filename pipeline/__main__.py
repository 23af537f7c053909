"""`python -m probe_or_tune`: the command line."""

from .command_line import door

door()
