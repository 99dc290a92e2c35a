"""What the operator costs and how quick it is, on a real control plane with fake nodes, beside KServe's."""
