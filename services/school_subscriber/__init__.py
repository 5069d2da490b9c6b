"""Agency: delivers plans to the inboxes of schools, colleges and early years providers."""
