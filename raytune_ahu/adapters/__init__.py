"""Everything that touches Ray: cluster, space, search algorithm, callbacks, progress, runner."""
