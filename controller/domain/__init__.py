"""What is true and what should happen: pure decisions, free of databases, clocks and networks."""
