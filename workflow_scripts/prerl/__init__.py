"""The replication's library; the scripts beside it are thin, one a rule.

    core         errors, files, constants, statistics: imported by all, imports none
    config       the settings, each key defined once; methods as chains of phases; checks (no torch)
    objectives   the paper's idea: log P(y|x) against log P(y), advantages, token mean, surrogate
    models       log-probs of responses, packing, sharding, prompts, checkpoints
    rollouts     samplers, rewards, thoughts
    training     the trainer, its state, the critic
    data         the miniature's corpus and model, problems, downloads
    evaluation   samples, grades, gradient alignment, out-of-distribution tasks, aggregation
    publishing   the paper's numbers, claims, tables, figures
    planning     memory, time and cost before a run (no torch)

Everything may import core and the settings of config; objectives < models < rollouts < {training, data, evaluation} <
publishing; config < planning. training, data and evaluation never import each other (tests/workflow/test_imports.py).
docs/paper_map.md leads from an equation, figure or claim of the paper to its line here.
"""
