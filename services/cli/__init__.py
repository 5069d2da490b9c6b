"""`ehcp`: talks to the services over HTTP, starts them as processes, imports none of them."""
