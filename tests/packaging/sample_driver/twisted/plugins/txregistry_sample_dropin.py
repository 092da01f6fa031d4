"""Announces the driver to txregistry; the file is named for the distribution."""

from txregistry_sample.maker import OneFileMaker

one_file_storage = OneFileMaker()
