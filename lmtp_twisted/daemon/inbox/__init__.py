"""What a development inbox knows of the messages that ``memory:`` backends keep: all but how it is shown."""
