"""Quantization-aware training; what is here runs in environments of its own, see ``training``."""
