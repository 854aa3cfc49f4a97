"""The losses that a run has logged so far, from MLflow's tables: also while it goes on."""

from sqlalchemy import Connection, column, inspect, select, table

_TAGS = table("tags", column("key"), column("value"), column("run_uuid"))
_METRICS = table("metrics", column("key"), column("value"), column("step"), column("run_uuid"), column("is_nan"))
_RUN_ID = "groundswell.run_id"
_LOSS = "loss"
_MAX_POINTS = 100_000


def logged_losses(connection: Connection, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """Returns step and loss, in the order of steps, by MLflow's run: one for each step of the run that logged losses.

    Args:
        connection: An open connection.
        run_id: The run, ours.
    """
    if not inspect(connection).has_table(_METRICS.name):
        return {}
    tags, metrics = _TAGS.c, _METRICS.c
    mine = select(tags.run_uuid).where(tags.key == _RUN_ID, tags.value == run_id)
    query = select(metrics.run_uuid, metrics.step, metrics.value).where(metrics.run_uuid.in_(mine), metrics.key == _LOSS)
    found: dict[str, dict[int, float]] = {}
    for row in connection.execute(query.where(metrics.is_nan.is_(False)).order_by(metrics.step).limit(_MAX_POINTS)):
        found.setdefault(row.run_uuid, {})[int(row.step)] = float(row.value)
    return {name: list(points.items()) for name, points in found.items()}
