"""Draw charts about sets beside the test part: inputs of no class, and shifted test inputs."""
