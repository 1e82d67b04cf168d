"""The rows of the fault table: each module lists its own in `ROWS`."""
