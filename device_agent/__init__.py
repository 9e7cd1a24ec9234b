"""The device agent: polls, pulls, verifies, activates and reports; serves the model locally."""
