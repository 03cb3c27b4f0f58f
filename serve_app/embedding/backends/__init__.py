"""Engines behind one Protocol. Each module is the only one that imports its library, and is imported only if chosen."""
