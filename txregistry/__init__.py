"""txregistry: a Docker/OCI image registry on Twisted."""

__version__ = "0.1.0"
