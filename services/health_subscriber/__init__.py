"""Agency: delivers plans into clinical records."""
