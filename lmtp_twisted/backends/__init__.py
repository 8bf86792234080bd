"""Where mail goes: one kind of delivery a module, and what is needed to make one from a line of text."""
