"""Named random generators under one root seed.

Everything random in a run asks here by name (`generator(seed, "search")`,
`derive_seed(seed, "trial", "shuffle")`), so that adding one consumer never shifts the numbers of
another, and the global generators are never touched.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(root_seed: int, *names: str | int) -> int:
    """Derive a 63-bit seed for one named purpose; the same in every process and on every machine.

    Args:
        root_seed: Root seed of the run, a non-negative integer.
        names: What the seed is for, from the general to the particular.

    Raises:
        ValueError: If `root_seed` is negative.
    """
    if root_seed < 0:
        raise ValueError(f"seed={root_seed} must be at least 0")
    text = "\x1f".join([str(int(root_seed)), *(str(name) for name in names)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(root_seed: int, *names: str | int) -> np.random.Generator:
    """Make numpy's default generator for one named purpose (see `derive_seed`)."""
    return np.random.default_rng(derive_seed(root_seed, *names))
