"""Oracle, fixed patterns, random routing and routers on one plane of budget and loss."""
