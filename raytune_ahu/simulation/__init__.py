"""raytune_ahu.simulation."""
