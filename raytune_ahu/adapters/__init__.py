"""raytune_ahu.adapters."""
