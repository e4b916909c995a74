"""Rewards by rule: format and accuracy, the latter in worker processes that never import jax."""
