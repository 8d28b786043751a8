"""A strategy, a router, a family and a question for duo-oracle, in a package of their own."""
