"""Judgement of the cluster: capacity, node fit, device holders, signs that nodes will be added."""
