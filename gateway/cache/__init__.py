"""Answers that were computed before, given again to who asks exactly the same."""
