"""A home with everything that has a metric, on each database."""

from tests.infra.promotion.conftest import postgres_template, sqlite_template, world  # noqa: F401 - fixtures
