"""Council: takes in receipts, keeps the ledger, answers who holds which version."""
