"""Jobs that must succeed before a custom resource goes on: what to create, and what became of it."""
