"""How the project is measured, documented and deployed; no part of what is installed."""
