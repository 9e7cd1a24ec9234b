"""Keys: where they lie, how they are opened, made and replaced."""
