"""What the program `kafka` is made of."""

import sys


class Failure(Exception):
    """Ends the program with a sentence and exit status 1."""


class Missing(Exception):
    """Ends the program with a sentence and exit status 3: the machine lacks something."""


def log(message):
    print(message, file=sys.stderr, flush=True)
