"""What people and scripts read: JSON-ready documents straight from the tables. Nothing here decides or writes."""
