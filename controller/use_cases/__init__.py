"""One verb a file, one transaction each: load, decide, save; tasks are sent after the commit."""
