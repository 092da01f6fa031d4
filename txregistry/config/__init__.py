"""Configuration: distribution's YAML and environment, read into frozen values.

The top of the program; it may import everything but is imported by the doors only.
"""
