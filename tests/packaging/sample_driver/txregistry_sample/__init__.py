"""A storage driver for txregistry that keeps everything in one SQLite file."""
