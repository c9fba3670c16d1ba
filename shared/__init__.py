"""What every process speaks: wire types, settings, errors, keys, the queue and the replies."""
