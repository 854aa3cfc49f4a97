"""The revisions of the schema, one alembic module each, in the order of their names; `infra.schema` applies them.

A revision is frozen once it was released: it says what it does itself and imports nothing of groundswell. Every one only adds,
so that a process of the version before it can go on writing.
"""
