"""Brings one version of a model into a pod: the program of the init container ``fetch``.

It imports the standard library and urllib3 only, so that it starts in a fraction of a second.
"""
