"""A client for the Blob service of Microsoft Azure, over treq.

It knows containers, blobs and blocks, and nothing of registries. Importing it loads Twisted's web
client, which is why drivers import it when they are made. May import the interfaces, treq and
Twisted.
"""
