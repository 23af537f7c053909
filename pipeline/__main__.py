"""`python -m probe_or_tune`: the command line."""

from .door import door

door()
