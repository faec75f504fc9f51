"""Errors, files, constants, statistics, killable workers: what every other package may use.

Imports no other package of the library, and no torch. Of the paper: intervals, avg@k and the unbiased pass@k.
"""
