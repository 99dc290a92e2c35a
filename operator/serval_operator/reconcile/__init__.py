"""The reconcile of every kind: gather, plan, apply, judge, publish. It knows no kind."""
