"""Brings one version of a model into a pod: the program of the init container ``fetch``.

`fetcher` is the whole fetch in order: a module of `stores` brings the files (with `oci` and `cache`), `model`
reads and publishes them, and `safety` has the checks that all sources share. The program imports the standard
library, urllib3 and Zstandard only, so that it starts in a fraction of a second; the library of object stores
is imported if a model is in one. The node's cache is a program of its own (`cache.__main__`).
"""
