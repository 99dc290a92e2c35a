"""The only door to the API server: a protocol, its implementation, and the cache of what was seen."""
