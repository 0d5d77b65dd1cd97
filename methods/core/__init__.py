"""What every method is made with: options, the registry, errors, random streams, passes, contractions."""
