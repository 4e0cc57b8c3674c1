"""Our search methods beside the peers' own code on recorded learning curves: see `run.py`."""
