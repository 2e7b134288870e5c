"""Adapters that keep other tools' Python names importable. They map names to routes and hold no logic of their own."""
