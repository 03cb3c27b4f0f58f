"""Engines behind one Protocol; each is the home of its library and is imported only when it is chosen."""
