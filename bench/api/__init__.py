"""What Python users call: ``bench`` exports it, and loads it when it is first asked for."""
