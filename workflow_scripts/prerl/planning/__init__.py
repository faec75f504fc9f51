"""Memory, time and disk of a run, planned before its first job, and what Snakemake would do.

Imports core and config; no torch. Nothing here comes from the paper.
"""
