"""Announces the reporter to txregistry; the file is named for the distribution."""

from txregistry_lines.maker import LinesMaker

lines_reporter = LinesMaker()
