"""Serval beside the models: the model server, the fetcher, the client and the command line."""
