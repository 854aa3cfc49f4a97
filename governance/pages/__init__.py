"""What the HTML pages of this room share: one style sheet, and how text from records gets onto a page."""
