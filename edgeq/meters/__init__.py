"""Power meters at this machine, one a file: ``make(argument)`` gives a ``ports.PowerMeter``."""
