"""Quantize a model for a small computer, prove it, push it, run it there and measure it."""

__version__ = "0.1.0"
