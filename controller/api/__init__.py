"""HTTP: the operator API, the device API, static signed files."""
