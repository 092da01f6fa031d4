"""Metadata: who holds what, under which names, in an SQLite database.

Modules of this room import the model, the interfaces and Twisted's Deferreds.
"""
