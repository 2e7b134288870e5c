"""Many routes at once: groups by name, work shared out among them, results and errors kept apart."""
