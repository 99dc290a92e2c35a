"""What the operator and the programs in a model's pod must agree on; each fact is defined once, here.

The operator builds arguments, mounts and manifests with these definitions. The fetcher, the model server and
the front parse and report with the same ones. The package imports the standard library only, and neither
program imports the other.
"""
