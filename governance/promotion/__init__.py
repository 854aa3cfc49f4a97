"""Promotion: who may let which model version into an environment, and what must hold before."""
