"""Figures, tables and the verdict on each claim.

Imports core, evaluation and what lies below it; no torch. From the paper: its numbers, each with our confidence in it
(paper.py), and its claims (claims.py).
"""
