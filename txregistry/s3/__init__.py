"""A client for S3 and what speaks like it, in the vocabulary of txAWS.

May import the interfaces, treq, Twisted and, for signing and credentials, botocore.
"""
