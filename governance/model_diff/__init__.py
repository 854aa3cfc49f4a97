"""Two model versions side by side: how well they do, what they were made from, what they draw."""
