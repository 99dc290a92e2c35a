"""ModelDeployment: a model on replicas."""
