"""Searches over parameters, described by W&B's sweep files and run on this machine through Optuna."""
