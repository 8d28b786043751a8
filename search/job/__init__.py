"""A search job: its config, the units that are solved, the workers that solve them, and the driver that writes them down."""
