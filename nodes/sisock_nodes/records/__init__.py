"""Bytes to columns and back: what sensor streams and logs carry."""
