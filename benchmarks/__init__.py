"""Benchmarks of this project; each script says in its docstring how it is run."""
