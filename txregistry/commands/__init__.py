"""Commands: what an operator does to a registry beside serving, one module each.

Modules of this room may import everything; ``txregistry.__main__`` only registers them.
"""

GOOD, BAD = 0, 1
"""Exit codes: it is good, something is wrong; 2 is wrong usage."""
