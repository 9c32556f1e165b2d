"""Tables on disk, CSV or TSV, that may still be growing."""
