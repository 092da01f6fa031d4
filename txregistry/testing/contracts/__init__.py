"""What every implementation of an interface has to do, as test classes to inherit from."""
