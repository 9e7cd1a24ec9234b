"""Tables and queries. The only place that imports SQLAlchemy."""
