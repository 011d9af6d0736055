"""twistd plugins: command lines of the roles."""
