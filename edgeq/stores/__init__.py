"""Where reports are kept, one kind a file."""
