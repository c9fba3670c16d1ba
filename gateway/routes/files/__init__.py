"""/v1/files and /v1/uploads: what a key's project has uploaded."""
