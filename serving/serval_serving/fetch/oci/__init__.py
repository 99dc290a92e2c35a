"""Images of registries: references, manifests and layers."""
