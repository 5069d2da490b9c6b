"""Council: accepts plans, decides shares, publishes instructions, serves documents."""
