"""A client of LDAP directories: connections, servers that stand in for each other, and accounts.

Messages are written and read by ldaptor. May import the model, the interfaces and Twisted.
"""
