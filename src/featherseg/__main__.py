"""``python -m featherseg``: the command line, as torchrun needs it."""

from .cli import main

main()
