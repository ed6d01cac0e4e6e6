"""``python -m featherseg``: the command line, as torchrun needs it."""

from .cli.main import main

if __name__ == "__main__":  # data workers that are spawned import this module again
    main()
