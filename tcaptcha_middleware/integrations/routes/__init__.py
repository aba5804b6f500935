"""Read the routes that an application serves, and check which ones the guard's rules cover."""
