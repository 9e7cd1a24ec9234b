"""The operator's command line: a client of the REST API, and the start of the servers."""
