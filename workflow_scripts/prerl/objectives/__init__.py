"""The objectives of PreRL and DSRL as pure functions on tensors.

Imports core. Of the paper: standard RL follows grad log P(y|x) R, PreRL grad log P(y) R, with the same rollouts
y ~ P(y|x) and the same rewards; only the prompt is dropped from the update. Read spaces.py first.
"""
