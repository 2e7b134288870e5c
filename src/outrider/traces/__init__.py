"""Where the time goes: noted while it happens, made into spans and pictures once somebody looks."""
