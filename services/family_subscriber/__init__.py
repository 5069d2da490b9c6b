"""Hosted by the council: keeps track of what parents and young people were sent."""
