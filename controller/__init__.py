"""The controller: stores, compresses, proves and signs models, and brings them to devices in stages."""
