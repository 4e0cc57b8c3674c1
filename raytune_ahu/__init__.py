"""Hyperparameter tuning on Ray Tune in which search and early stopping work together."""
