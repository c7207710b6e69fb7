"""Control loops as pure functions: objects and the time in, writes out."""
