"""Agency: delivers plans into social care case systems."""
