"""Bias correction of float model files: one file a format.

``core.bias`` has the rule. The correction goes into the float model's biases, which are then
quantized like any others; its weights, and so their rounding, stay as they are.
"""
