"""Target formats, one a file: each turns the pivot into an artifact."""
