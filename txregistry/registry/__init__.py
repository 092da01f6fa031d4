"""The registry itself: the distribution protocol's meaning, over a storage driver and metadata.

Modules of this room import the model, the interfaces and Twisted's Deferreds; never HTTP, and never
another room of the same level.
"""
