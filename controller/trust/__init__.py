"""Keys and everything that is signed or checked with them, free of databases and settings.

`keys` holds the private keys, `image_repository` says what a model version is, `director` says which device
runs it, `sessions` and `enrolment` say who a device is. The parts of the two repositories share no key.
"""
