"""What administrators do: projects, users, keys, budgets, prices, and the log of it all."""
