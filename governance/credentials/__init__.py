"""Content credentials: what a generated file says of itself, and what follows from reading it. Rules and bytes, no records."""
