"""One trainer for every method, both spaces and all scales.

Imports core, config's settings, objectives, models and rollouts; never data or evaluation. Of the paper: the update of
sections 3 and 4 (trainer.py, updates.py), PPO's critic among the baselines (critic.py).
"""
