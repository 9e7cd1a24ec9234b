"""The image repository: what a model version is, as a TUF repository of static files."""
