"""Shared parts of the commands: arguments, exit statuses, live views, descriptions and summaries."""
