"""The process that owns engines: claims jobs, streams their tokens back."""
