"""Fine-tuning: what a job computes is here; a child process in an environment with torch trains."""
