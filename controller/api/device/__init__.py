"""The device API: a fast path for polls and reports in front of the application, and ordinary routes for the rest.

Polls and reports are nearly all of the traffic, so both bypass the framework (`asgi.py`). A poll that finds
nothing new is answered from memory (`poll_cache.py`); every other poll and every report shares a round trip to
the database with those that arrive meanwhile (`batching.py`). `hot_path.py` holds these parts together.
"""
