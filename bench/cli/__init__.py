"""What commands share: arguments, exit codes, live views and summaries."""
