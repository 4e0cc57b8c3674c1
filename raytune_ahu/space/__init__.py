"""raytune_ahu.space."""
