"""The library against programs that others wrote: servers as people run them."""
