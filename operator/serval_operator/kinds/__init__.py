"""One folder for each kind of custom resource."""
