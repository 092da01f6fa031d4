"""Plain values of a registry: names, digests, descriptors, manifests, ranges, pages, errors.

Every module here stands alone: it imports the standard library, attrs and other modules of this
room, never Twisted, zope.interface or HTTP.
"""
