"""Ways to reach a device, one a file."""
