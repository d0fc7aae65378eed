"""What a bridge does, on every engine, at the level of its pump."""
