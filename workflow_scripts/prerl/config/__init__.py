"""config.yaml and scales/*.yaml: settings, methods as chains of phases, inheritance of scales, checks.

Imports core; no torch, since Snakemake reads it at every run. The paper in it: the methods (PreRL, PSR, NSR, DSRL),
policy reincarnation as a chain of phases, and the 19 or 20 updates of a warm-up of 20 (methods.py).
"""
