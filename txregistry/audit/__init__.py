"""The audit log: who changed what, and who could not come in, in a file that tells if it is whole.

The changes are those of the event log in the database, which are there because the changes are; so
none is missing, whenever a process dies.
"""
