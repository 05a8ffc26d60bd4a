"""A stranger's plugin, as the tests install it: attention with a temperature, and a filter."""
