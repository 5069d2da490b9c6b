"""What two or more services use. Imports none of them."""
