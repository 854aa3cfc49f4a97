"""What the index of training items is called, for those who need not read it."""

from typing import Final

INDEX_NAME: Final = "training_index.safetensors"
