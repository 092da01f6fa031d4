"""Announces the plugins to txregistry; the file is named for the distribution."""

from txregistry_sample_access.makers import CrewMaker, HomesMaker

crew_authenticator = CrewMaker()
homes_policy = HomesMaker()
