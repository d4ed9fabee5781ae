"""Model folders that other MLX converters wrote."""
