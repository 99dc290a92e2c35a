"""The machinery that knows no kind: client, cache, watches, queue, apply, events, Lease, metrics."""
