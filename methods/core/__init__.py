"""What every method is made with: options, the registry, errors, streams, passes, contractions."""
