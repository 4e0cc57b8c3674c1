"""raytune_ahu.search."""
