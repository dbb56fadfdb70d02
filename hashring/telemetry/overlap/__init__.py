"""What two agents poll in common: what each announces, and what is at odds."""
