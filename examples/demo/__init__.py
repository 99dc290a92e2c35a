"""The demo: from nothing to a model that is scored on a Kubernetes cluster. ``python -m examples.demo``.

Its parts stand alone and are used by the end-to-end tests: `model` trains and packs, `manifests` describes
what is applied, `watching` follows a ModelDeployment to Ready, `scoring` asks it for answers, `load` keeps on
asking, `scarcity` lets devices run short.
"""
