"""What may be generated: policies, and how prompts are matched with them."""
