"""The cache of a node: `store` and `server` are its program, `client` is how a fetcher uses it."""
