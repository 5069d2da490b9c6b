"""Council: notices what should have arrived and did not, and says so."""
