"""The files of a model: frameworks, versions, digests, and the folder that the server reads."""
