"""Subcommands of ``txregistry`` that work on a registry's data; each imports what it needs.

May import everything.
"""
