"""One module per dashboard, or per group of its panels."""
