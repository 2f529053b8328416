"""The part that runs on the device: standard library, Python 3.8 or newer, one .pyz."""
