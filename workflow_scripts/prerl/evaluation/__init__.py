"""Samples of trained policies, their grades, gradient alignment, out-of-distribution tasks, aggregated scores.

Imports core, config's settings, objectives, models and rollouts; never training or data. Of the paper: the alignment of
log P(y) with log P(y|x) and its controls (gradient_alignment.py), Avg@32 and pass@k (aggregation.py).
"""
