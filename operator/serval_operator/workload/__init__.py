"""What kinds that serve a model with a Deployment have in common: plan, manifests and judgement."""
