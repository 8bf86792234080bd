"""``--trace``: the dialogues of chosen sessions, as files that people read."""
