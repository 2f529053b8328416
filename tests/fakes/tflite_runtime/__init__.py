"""Stands for tflite-runtime on a device, and misbehaves as its model's bytes tell it."""

__version__ = "0.0-fake"
