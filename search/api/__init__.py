"""What a notebook calls: search, solve, compare and route, with the command line's options by the same names."""
