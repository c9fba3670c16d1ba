"""Answers found by meaning: the guard before a hit, the bound on wrong ones, the cache."""
