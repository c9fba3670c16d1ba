"""The database schema, one step after the other. Each step is raw SQL."""
