"""Stores converted models as ordinary images, in a registry or in a mounted claim.

`folder` reads an artifact's files, `layer` and `image` make an image of them, `push` sends it to a registry
and `layout` writes it into a claim. `push_stage` is the program of the Job's last container. Addresses, TLS,
credentials and tokens are those of the fetcher (`serval_serving.fetch.oci`).
"""
