"""A reporter that writes what it is told into a file."""
