"""Models on disk and in memory: which versions there are, which should serve, and their states."""
