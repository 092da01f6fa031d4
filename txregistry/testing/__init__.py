"""The testing kit: contracts, doubles and fixtures for this project and for plugin authors."""
