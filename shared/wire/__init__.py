"""Every byte that crosses a process boundary, as msgspec Structs."""
