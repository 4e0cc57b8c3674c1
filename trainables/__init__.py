"""Trainables: what is tuned."""
