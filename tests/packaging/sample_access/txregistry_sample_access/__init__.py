"""A crew that shares a password, and homes that are their owners'."""
