"""The work queue and the reconciler: gather, plan, apply, status, events."""
