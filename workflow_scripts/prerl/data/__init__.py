"""Problems and base models: generated for the miniature, downloaded by checksum for the paper, or the user's own.

Imports core, config's settings, objectives, models and rollouts; never training or evaluation. Of the paper: MATH's
training set, the benchmarks, Qwen3 (problems.py, downloads.py, hub.py).
"""
