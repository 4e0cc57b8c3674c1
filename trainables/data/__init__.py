"""Data sets in memory, as tensors."""
