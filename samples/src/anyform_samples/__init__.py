"""Small models of our own, and the code that makes them."""
