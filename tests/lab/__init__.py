"""Emulated boards for device tests: Debian in QEMU, with a board's sensors, model and faults."""
