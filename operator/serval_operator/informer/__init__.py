"""Custom resources by kopf: its registry, login and life cycle. Nothing else of the operator imports kopf."""
