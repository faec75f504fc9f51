"""Responses y ~ P(y|x): samplers, the verifiable reward, reflection and transition thoughts, or rules of the user's.

Imports core, config's settings, objectives and models. Of the paper: the 0/1 reward by Hendrycks equality (rewards.py)
and the SEAL rule behind its thought counts (thoughts.py).
"""
