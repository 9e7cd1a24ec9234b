"""The pages: rendered on the server, readable without scripts, for people on any screen."""
