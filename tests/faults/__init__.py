"""The library against peers that fail, lie or attack."""
