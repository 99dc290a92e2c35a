"""Proxy mode (`--upstream`): this server in front of another, with keys, limits and `/score`."""
