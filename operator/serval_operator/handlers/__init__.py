"""Everything that imports kopf. Handlers record what was seen and enqueue keys, nothing else."""
