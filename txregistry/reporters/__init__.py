"""Reporters: who is told what the registry does, and how it gets there.

May import the model, the interfaces, treq, Twisted and what every room may use.
"""
