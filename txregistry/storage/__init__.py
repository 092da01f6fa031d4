"""Storage drivers: bytes under keys. Modules of this room know nothing of repositories or HTTP.

They may import the interfaces, the model's options and Twisted.
"""
