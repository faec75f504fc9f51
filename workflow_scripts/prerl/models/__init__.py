"""A policy and the log-probs of its responses: forward passes, packing, sharding, prompts, checkpoints.

Imports core, config's settings and objectives. Of the paper: log P(y|x) and log P(y) as numbers (logprobs.py), the
prefix token that P(y) is conditioned on (prompts.py), the Adam moments that are handed over (training_checkpoints.py).
"""
