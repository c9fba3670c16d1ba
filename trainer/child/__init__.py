"""The process that trains, alone in an environment with torch, trl and peft."""
