"""Sphinx configuration."""

project = "txregistry"
author = "the txregistry contributors"
copyright = "2026, the txregistry contributors"
extensions: list[str] = []
exclude_patterns = ["_build", "newsfragments", "performance-*.rst"]
html_theme = "alabaster"
