"""The operator's command line: a client of the REST API, and the commands that start the controller's processes."""
