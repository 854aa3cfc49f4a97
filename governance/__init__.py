"""Records, no tensors: ledger, lineage, signing, and the documents made from them."""
