"""How the hub is run: the aihub command, the supervisor, embedded servers, the model store."""
