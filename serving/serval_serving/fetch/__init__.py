"""Brings one version of a model into a pod: the program of the init container ``fetch``.

It imports the standard library, urllib3 and Zstandard only, so that it starts in a fraction of a second; what
talks to object stores is imported where a model lies in one.
"""
