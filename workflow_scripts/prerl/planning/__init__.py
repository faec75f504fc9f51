"""Memory, time and disk of a run before its first job, and what Snakemake plans to do.

Imports core and config; no torch. Nothing here is of the paper.
"""
