"""Judgement of pods: their states, back-off of refused pods, deadlines, what they run on."""
