"""Feeds of OCS agents."""
