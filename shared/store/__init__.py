"""Typed functions over the named queries of shared/sql; the only place that executes SQL."""
