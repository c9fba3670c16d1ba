"""/v1/fine_tuning, and the same jobs at /api/v1/training."""
