"""Business uses, one module each: an input of its own, an output of its own, and a figure by which it is accepted.

`python -m groundswell.uses.<use>`; docs/guides/ has a page for each.
"""
