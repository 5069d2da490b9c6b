"""How fast the exchange is, as ratios to a bare loop of the same writes in the same run. Timing never fails anything."""
