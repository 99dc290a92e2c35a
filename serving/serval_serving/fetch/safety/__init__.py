"""Checks that all sources share: network addresses, names of files, sizes, archives."""
