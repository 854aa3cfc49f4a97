"""What somebody can do to the records who can write the database but holds none of its keys."""

import hashlib
import json
import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Table

from governance.canonical import canonical_json
from governance.checkpoint import Checkpoint, sign_checkpoint
from governance.merkle import GrowingTree, MemoryNodes, extend, leaf_hash
from governance.platform_keys import fingerprint_of
from infra.key_pem import public_pem
from infra.keys import Keys
from infra.tables import metadata, schema_version

# What no entry speaks of, and why.
UNSPOKEN: Mapping[tuple[str, str], str] = {
    ("gs_runs", "pid"): "only the machine that runs it asks for it, to end runs that died",
    ("gs_runs", "host"): "the same",
    ("gs_runs", "mlflow_run_id"): "MLflow's name for the run; what MLflow holds is no evidence",
    ("gs_artifacts", "location"): "where the bytes are now, which a restore changes; the digest says which bytes they are",
    ("gs_model_versions", "location"): "the same",
    ("gs_ledger_checkpoints", "time"): "when the note was kept; it is no part of what is signed",
}
# Rows that may go: a checkpoint that is not kept here any longer is one that was kept elsewhere, an anchor.
MAY_GO = {"gs_ledger_checkpoints"}
JSON_COLUMNS = {"params", "facts", "record", "metrics", "inputs", "error"}
TABLES = [table for table in metadata.sorted_tables if table is not schema_version]  # with another value it does not open


class NoTamper(Exception):  # noqa: N818 - nothing is wrong
    """What was tried changes nothing, or cannot be done here."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Where a tamper is done.

    Attributes:
        connection: A transaction without triggers that is rolled back later.
        random: Chooses.
        anchor: A checkpoint that is kept elsewhere.
        keys: The home's keys, for what the attacker has not: they are used to make nothing here.
    """

    connection: Connection
    random: random.Random
    anchor: Checkpoint
    keys: Keys

    @property
    def row_id(self) -> str:
        """How the database itself names a row."""
        return "rowid" if self.connection.dialect.name == "sqlite" else "ctid"

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Returns a table's rows in the order in which they were written, each with its `row_id`."""
        found = self.connection.exec_driver_sql(f"SELECT {self.row_id} AS row_id, * FROM {table} ORDER BY {self.row_id}")
        return [dict(row._mapping) for row in found]

    def execute(self, statement: str, *values: Any) -> None:
        """Executes a statement with ``?`` for values; raises `NoTamper` where no row was changed."""
        if self.connection.dialect.name != "sqlite":
            statement = statement.replace("?", "%s")
        if self.connection.exec_driver_sql(statement, values).rowcount == 0:
            raise NoTamper

    def write(self, table: str, row_id: Any, column: str, value: Any) -> None:
        """Writes one value."""
        placeholder = "CAST(? AS TEXT)" if isinstance(value, bytearray) else "?"
        value = bytes(value) if isinstance(value, bytearray) else value
        self.execute(f'UPDATE {table} SET "{column}" = {placeholder} WHERE {self.row_id} = ?', value, row_id)

    def insert(self, table: str, row: Mapping[str, Any]) -> None:
        """Writes a row."""
        values = {name: value for name, value in row.items() if name != "row_id"}
        names = ", ".join(f'"{name}"' for name in values)
        self.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(values))})", *values.values())


def tamper(scene: Scene) -> tuple[str, str]:
    """Does one tamper, and returns its kind and what it was.

    Raises:
        NoTamper: What was chosen would change nothing.
    """
    kind = scene.random.choices(list(TAMPERS), weights=[weight for weight, _ in TAMPERS.values()])[0]
    return kind, TAMPERS[kind][1](scene)


def _flip_bit(scene: Scene) -> str:
    table, row = _some_row(scene)
    column = _some_column(scene, table)
    value = row[column.name]
    changed = _flipped(value, scene)
    if column.name in JSON_COLUMNS and isinstance(changed, bytearray) and _json(bytes(changed)) == _json(value):
        raise NoTamper
    scene.write(table.name, row["row_id"], column.name, changed)
    return f"{table.name}.{column.name} of row {row['row_id']}: {value!r:.60} became {changed!r:.60}"


def _flipped(value: Any, scene: Scene) -> Any:
    if isinstance(value, str) and value:
        data = bytearray(value.encode())
        data[scene.random.randrange(len(data))] ^= 1 << scene.random.randrange(8)
        return data if scene.connection.dialect.name == "sqlite" else _decoded(data)
    if isinstance(value, bytes) and value:
        place = scene.random.randrange(len(value))
        return value[:place] + bytes([value[place] ^ 1 << scene.random.randrange(8)]) + value[place + 1 :]
    if isinstance(value, int):
        return value ^ 1 << scene.random.randrange(30)
    if isinstance(value, float):
        (bits,) = struct.unpack("<q", struct.pack("<d", value))
        return struct.unpack("<d", struct.pack("<q", bits ^ 1 << scene.random.randrange(52)))[0]
    raise NoTamper


def _decoded(data: bytearray) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        raise NoTamper from None


def _json(value: Any) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _replace_value(scene: Scene) -> str:
    """Takes a value from another row, or takes it away."""
    table, row = _some_row(scene)
    column = _some_column(scene, table)
    value = None if column.nullable and scene.random.random() < 0.5 else _some_row_of(scene, table)[column.name]
    if value == row[column.name]:
        raise NoTamper
    scene.write(table.name, row["row_id"], column.name, value)
    return f"{table.name}.{column.name} of row {row['row_id']}: {row[column.name]!r:.60} became {value!r:.60}"


def _delete(scene: Scene) -> str:
    table, row = _some_row(scene)
    if table.name in MAY_GO:
        raise NoTamper
    scene.execute(f"DELETE FROM {table.name} WHERE {scene.row_id} = ?", row["row_id"])
    return f"row {row['row_id']} of {table.name}"


def _delete_all(scene: Scene) -> str:
    table, _ = _some_row(scene)
    if table.name in MAY_GO:
        raise NoTamper
    scene.execute(f"DELETE FROM {table.name}")
    return f"all rows of {table.name}"


def _swap_rows(scene: Scene) -> str:
    """Swaps what two rows hold beside their keys."""
    table, one = _some_row(scene)
    other = _some_row_of(scene, table)
    columns = [column for column in table.columns if not column.primary_key and (table.name, column.name) not in UNSPOKEN]
    if all(_json_or_same(one[column.name], other[column.name], column.name) for column in columns):
        raise NoTamper
    for column in columns:
        scene.write(table.name, one["row_id"], column.name, other[column.name])
        scene.write(table.name, other["row_id"], column.name, one[column.name])
    return f"rows {one['row_id']} and {other['row_id']} of {table.name}"


def _swap_values(scene: Scene) -> str:
    table, one = _some_row(scene)
    other, column = _some_row_of(scene, table), _some_column(scene, table)
    if column.primary_key or _json_or_same(one[column.name], other[column.name], column.name):
        raise NoTamper
    scene.write(table.name, one["row_id"], column.name, other[column.name])
    scene.write(table.name, other["row_id"], column.name, one[column.name])
    return f"{table.name}.{column.name} of rows {one['row_id']} and {other['row_id']}"


def _json_or_same(one: Any, other: Any, column: str) -> bool:
    return bool(one == other or (column in JSON_COLUMNS and None not in (one, other) and _json(one) == _json(other)))


def _duplicate(scene: Scene) -> str:
    table, row = _some_row(scene)
    keys = [column.name for column in table.primary_key.columns]
    name = scene.random.choice(keys)
    taken = {other[name] for other in scene.rows(table.name)}
    value = row[name]
    if isinstance(value, int):
        changed: Any = max(taken) + scene.random.randint(1, 3) if scene.random.random() < 0.7 else min(taken) - 1
    else:
        changed = value[:-1] + scene.random.choice([c for c in "0123456789abcdef" if c != value[-1]])
    scene.insert(table.name, {**row, name: changed})
    return f"row {row['row_id']} of {table.name} again with {name} {changed!r:.70}"


def _truncate(scene: Scene) -> str:
    """Cuts the end off, with everything that would tell of it but the anchor."""
    size = scene.random.randrange(scene.anchor.size)
    entries = scene.rows("gs_ledger_entries")
    scene.connection.exec_driver_sql(f'DELETE FROM gs_ledger_entries WHERE "index" >= {size}')
    _rebuild(scene, [row["entry"] for row in entries[:size]])
    scene.connection.exec_driver_sql(f"DELETE FROM gs_ledger_checkpoints WHERE size > {size}")
    return f"to {size} entries, with the anchor at {scene.anchor.size}"


def _fork(scene: Scene) -> str:
    """Writes the history anew from some entry on, with a tree that fits."""
    rows = scene.rows("gs_ledger_entries")
    index = scene.random.randrange(scene.anchor.size)
    record = json.loads(rows[index]["entry"])
    part = scene.random.choice(["time", "actor", "details", "run_id", "action"])
    record[part] = {
        "time": "2031-05-05T05:05:05.000005Z",
        "actor": "id-0000000000000000",
        "details": {**record["details"], "note": "it was so"},
        "run_id": None if record["run_id"] else "r",
        "action": "other.action",
    }[part]
    data = canonical_json(record)
    columns = 'entry = ?, action = ?, run_id = ? WHERE "index" = ?'
    scene.execute(f"UPDATE gs_ledger_entries SET {columns}", data, record["action"], record["run_id"], index)
    _rebuild(scene, [data if row["index"] == index else row["entry"] for row in rows])
    if scene.random.random() < 0.5:
        scene.connection.exec_driver_sql("DELETE FROM gs_ledger_checkpoints")
    return f"{part} of entry {index}, with the anchor at {scene.anchor.size}"


def _reorder_entries(scene: Scene) -> str:
    """Swaps two entries, each given the other's index, with a tree that fits."""
    rows = scene.rows("gs_ledger_entries")
    one, other = sorted(scene.random.sample(range(len(rows)), 2))
    if one >= scene.anchor.size:
        raise NoTamper
    entries = [row["entry"] for row in rows]
    for place, source in ((one, other), (other, one)):
        record = json.loads(rows[source]["entry"]) | {"index": place}
        entries[place] = canonical_json(record)
        values = (entries[place], record["action"], record["subject"], record["run_id"], place)
        scene.execute('UPDATE gs_ledger_entries SET entry = ?, action = ?, subject = ?, run_id = ? WHERE "index" = ?', *values)
    _rebuild(scene, entries)
    if scene.random.random() < 0.5:
        scene.connection.exec_driver_sql("DELETE FROM gs_ledger_checkpoints")
    return f"entries {one} and {other}, with the anchor at {scene.anchor.size}"


def _rebuild(scene: Scene, entries: list[bytes]) -> None:
    scene.connection.exec_driver_sql("DELETE FROM gs_ledger_nodes")
    leaves = [leaf_hash(bytes(data)) for data in entries]
    for (level, position), value in extend(0, leaves, MemoryNodes()).items():
        scene.insert("gs_ledger_nodes", {"level": level, "position": position, "hash": value})
    scene.execute("UPDATE gs_ledger_head SET size = ?", len(entries))


def _forge_checkpoint(scene: Scene) -> str:
    """Signs a head with another key: the ledger's own, or an invented one."""
    head = scene.rows("gs_ledger_head")[0]["size"]
    size = scene.random.choice([head, scene.random.randrange(head + 50)])
    seed = scene.random.randbytes(32)
    root = scene.anchor.root_hash if size == scene.anchor.size else hashlib.sha256(seed).digest()
    note = sign_checkpoint(size=size, root_hash=root, private_key=Ed25519PrivateKey.from_private_bytes(seed))
    if scene.random.random() < 0.5:  # under the log's own name
        other = note.split("\n")[0]
        note = note.replace(other, scene.anchor.origin)
    scene.connection.exec_driver_sql(f"DELETE FROM gs_ledger_checkpoints WHERE size = {size}")
    scene.insert("gs_ledger_checkpoints", {"size": size, "note": note, "time": "2026-01-01T00:00:00.000000Z"})
    return f"of {size} entries"


def _forge_rotation(scene: Scene) -> str:
    """Names an invented key as the log's next, with its own hand-over, an older one, or none, and signs on with it."""
    entries = [row["entry"] for row in scene.rows("gs_ledger_entries")]
    known = [json.loads(row["entry"]) for row in scene.rows("gs_ledger_entries") if row["subject"] == "key:log"]
    before = next(entry["details"] for entry in reversed(known) if "public_key_pem" in entry["details"])
    key = Ed25519PrivateKey.from_private_bytes(scene.random.randbytes(32))
    pem = public_pem(key.public_key()).decode()
    rotated = {
        "algorithm": "ed25519",
        "previous_sha256": before["public_key_sha256"],
        "public_key_pem": pem,
        "public_key_sha256": fingerprint_of(pem),
    }
    own = sign_checkpoint(size=len(entries) + 1, root_hash=scene.anchor.root_hash, private_key=key)
    older = scene.random.choice(scene.rows("gs_ledger_checkpoints"))["note"]
    handover = scene.random.choice([{"checkpoint": own}, {"checkpoint": older}, {}])
    for action, details in (("key.rotated", rotated), ("key.activated", handover)):
        entry = {**known[-1], "index": len(entries), "action": action, "details": details}
        data = canonical_json(entry)
        row = {"index": len(entries), "entry": data, "action": action, "subject": "key:log", "run_id": None}
        scene.insert("gs_ledger_entries", row)
        entries.append(data)
    _rebuild(scene, entries)
    tree = GrowingTree()
    tree.append([leaf_hash(bytes(data)) for data in entries])
    note = sign_checkpoint(size=tree.size, root_hash=tree.root(), private_key=key)
    scene.insert("gs_ledger_checkpoints", {"size": len(entries), "note": note, "time": "2026-01-01T00:00:00.000000Z"})
    return f"at {len(entries)} entries"


def _replay_signature(scene: Scene) -> str:
    """Puts the signature of one size under another, or a whole note."""
    rows = scene.rows("gs_ledger_checkpoints")
    one = scene.random.choice(rows)
    body, _, signature = one["note"].rpartition("\n\n")
    size = scene.random.choice([one["size"] + 1, max(0, one["size"] - 1), *(row["size"] for row in rows)])
    if size == one["size"]:
        raise NoTamper
    lines = body.split("\n")
    note = scene.random.choice([one["note"], f"{lines[0]}\n{size}\n{lines[2]}\n\n{signature}"])
    scene.connection.exec_driver_sql(f"DELETE FROM gs_ledger_checkpoints WHERE size = {size}")
    scene.insert("gs_ledger_checkpoints", {"size": size, "note": note, "time": one["time"]})
    return f"of {one['size']} entries under {size}"


def _forge_lineage(scene: Scene) -> str:
    """Invents an edge, or an event with edges."""
    rows = scene.rows("gs_lineage_events")
    one = scene.random.choice(rows)
    source, target = f"dataset:{scene.random.randbytes(32).hex()}", f"package:{scene.random.randbytes(32).hex()}"
    edge = {"source": source, "target": target, "event_id": one["id"]}
    if scene.random.random() < 0.5:
        event = json.loads(one["event"])
        event["outputs"] = [{"namespace": "groundswell", "name": target}]
        edge["event_id"] = scene.random.choice([max(row["id"] for row in rows) + 1, 0])
        text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        scene.insert("gs_lineage_events", {**one, "id": edge["event_id"], "event": text})
    scene.insert("gs_lineage_edges", edge)
    return f"edge of event {edge['event_id']}"


def _some_row(scene: Scene) -> tuple[Table, dict[str, Any]]:
    table = scene.random.choice(TABLES)
    return table, _some_row_of(scene, table)


def _some_row_of(scene: Scene, table: Table) -> dict[str, Any]:
    found = scene.rows(table.name)
    if not found:
        raise NoTamper
    return scene.random.choice(found)


def _some_column(scene: Scene, table: Table) -> Any:
    return scene.random.choice([column for column in table.columns if (table.name, column.name) not in UNSPOKEN])


# How often each is chosen, as against the others.
TAMPERS: Mapping[str, tuple[int, Callable[[Scene], str]]] = {
    "bit flipped": (10, _flip_bit),
    "value replaced": (5, _replace_value),
    "row deleted": (3, _delete),
    "all rows deleted": (1, _delete_all),
    "rows swapped": (3, _swap_rows),
    "values swapped": (5, _swap_values),
    "row duplicated": (3, _duplicate),
    "ledger truncated": (1, _truncate),
    "ledger forked": (1, _fork),
    "entries reordered": (1, _reorder_entries),
    "checkpoint forged": (1, _forge_checkpoint),
    "signature replayed": (1, _replay_signature),
    "rotation forged": (1, _forge_rotation),
    "lineage forged": (1, _forge_lineage),
}
