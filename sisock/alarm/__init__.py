"""Alarms on the fields of a node: definitions, states, evaluation, notifications."""
