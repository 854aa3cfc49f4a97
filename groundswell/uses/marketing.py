"""Personal marketing: a clip for each customer who consented, and nothing in the platform that says for whom.

What the model gets is a prompt that a person approved for a segment and a favourite, under a random id. Which id is whose stands
in one file that stays with the caller. Who deletes it, or a row of it, has erased whose clip it was.
"""

import re
import secrets
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.problem import CommandError
from groundswell.uses.command import OUT, SEED, TABLE, read_table, run, tell, write_table
from groundswell.uses.figure import Figure, share

Row = dict[str, str]

_CUSTOMER = ("customer_id", "segment", "favourite", "consent")
_OFFER = ("segment", "favourite", "prompt")
_MAPPING = ("customer_id", "request_id")
_CONSENTED = "yes"
_LEAST_ID = 4
_CHUNK = 1 << 20
_REQUEST = re.compile(r"[0-9a-f]{16}")
_EXAMPLE = "python -m groundswell.uses.marketing m/1 customers.csv --offers offers.csv --mapping private/mapping.csv"


@click.command(
    cls=Command,
    examples=(f"{_EXAMPLE} --out campaign", f"{_EXAMPLE} --out campaign --erase C-100008"),
)
@click.argument("model")
@click.argument("customers", type=TABLE)
@click.option("--offers", type=TABLE, required=True, help="Prompts by segment and favourite; an empty favourite is any other.")
@click.option(
    "--mapping",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Where it is kept which request is whose; yours, outside of home and DIR.",
)
@click.option("--erase", metavar="CUSTOMER", help="Make nothing; forget whose a customer's clip is, and delete it.")
@SEED
@OUT
@pass_invocation
def command(
    invocation: Invocation,
    model: str,
    customers: Path,
    offers: Path,
    mapping: Path,
    erase: str | None,
    seed: int,
    out: Path,
) -> int:
    """Make with MODEL a clip for each of CUSTOMERS who consented.

    CUSTOMERS is a CSV table with the columns customer_id, segment, favourite and consent (yes, or anything else). The mapping,
    and DELIVERY.csv beside it, say whose which file is; the home and DIR do not: they are searched for every customer's id, byte
    by byte. Where a customer has no verified file or more than one, or an id is found, the exit code is 5.
    """
    home = invocation.open_home()
    people = _people(customers)
    if any(mapping.resolve().is_relative_to(folder.resolve()) for folder in (home.path, out)):
        raise CommandError(f"{mapping} lies in the home or in {out}", hint="keep the mapping where only you can read it")
    known = _known(mapping)
    if erase is not None:
        return _erase(invocation, erase, known, mapping, out)
    from groundswell.uses.making import How, is_verified, make

    wanted = {row["customer_id"]: row for row in people if row["consent"] == _CONSENTED}
    gone = [customer for customer in known if customer not in wanted]
    for customer in gone:
        shutil.rmtree(out / known.pop(customer), ignore_errors=True)
    known |= {customer: secrets.token_hex(8) for customer in wanted if customer not in known}
    _write(mapping, known)
    requests = requests_of(wanted, known, read_table(offers, _OFFER), seed=seed)
    made = make(home, requests, How(model=model, seed=seed), out, actor=invocation.actor(home))
    verified = {name for name, path in made.files.items() if is_verified(home, path)}
    segments = {one.request_id: one.segment for one in made.results}
    delivery = [
        {"customer_id": customer, "file": str(made.files.get(request, "")), "segment": segments.get(request, "")}
        for customer, request in known.items()
    ]
    if delivery:
        write_table(mapping.with_name("delivery.csv"), delivery)
    figures = [
        share(
            "consenting customers with one verified file of their segment",
            one_each(wanted, known, made.files, verified, segments),
        ),
        _ceiling("files that are of nobody who consented", len(_folders(out) - set(known.values())), len(people)),
        _ceiling(
            "files in the home and beside the clips with a customer's id in them",
            len(find_bytes((home.path, out), [row["customer_id"] for row in people])),
            len(people),
        ),
    ]
    facts = [("customers", len(people)), ("consented", len(wanted)), ("made", len(made.files)), ("refused", made.refused)]
    return tell(invocation, figures, facts=facts, results=made.exit_code)


def requests_of(
    wanted: Mapping[str, Row], ids: Mapping[str, str], offers: Sequence[Row], *, seed: int
) -> list[dict[str, object]]:
    """Returns the table of requests, in the order of the random ids, so that the order tells nothing.

    Raises:
        CommandError: A segment has no offer for a favourite, and none for any other.
    """
    prompts = {(row["segment"], row["favourite"]): row["prompt"] for row in offers}
    rows: list[dict[str, object]] = []
    for customer, row in wanted.items():
        prompt = prompts.get((row["segment"], row["favourite"])) or prompts.get((row["segment"], ""))
        if prompt is None:
            raise CommandError(
                f"no offer of segment {row['segment']!r:.40} fits a customer's favourite",
                hint="add a row to the offers with this segment and an empty favourite",
            )
        own = (seed + int(ids[customer], 16)) % 2**31
        rows.append({"request_id": ids[customer], "prompt": prompt, "segment": row["segment"], "seed": own})
    return sorted(rows, key=lambda one: str(one["request_id"]))


def one_each(
    wanted: Mapping[str, Row],
    ids: Mapping[str, str],
    files: Mapping[str, Path],
    verified: Iterable[str],
    segments: Mapping[str, str],
) -> list[bool]:
    """Returns of each consenting customer whether there is one verified file, which is of his segment and nobody else's."""
    whose, fine = Counter(ids.values()), set(verified)
    return [
        (request := ids.get(customer, "")) in fine
        and whose[request] == 1
        and segments.get(request) == row["segment"]
        and len([path for path in files[request].parent.iterdir() if "-grid." not in path.name]) == 1
        for customer, row in wanted.items()
    ]


def find_bytes(folders: Sequence[Path], texts: Sequence[str]) -> list[Path]:
    """Returns the files below some folders whose names or bytes hold one of some texts, in UTF-8, upper or lower case."""
    wanted = re.compile(b"|".join(re.escape(text.lower().encode()) for text in texts))
    longest = max(len(text.encode()) for text in texts)
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            named = bool(wanted.search(str(path.relative_to(folder)).lower().encode()))
            if named or (path.is_file() and not path.is_symlink() and _holds(path, wanted.search, longest)):
                found.append(path)
    return found


def _holds(path: Path, search: Callable[[bytes], object], longest: int) -> bool:
    with path.open("rb") as file:
        tail = b""
        while chunk := file.read(_CHUNK):
            if search((tail + chunk).lower()):
                return True
            tail = chunk[-longest:]
    return False


def _ceiling(name: str, value: int, num: int) -> Figure:
    return Figure(name=name, value=value, threshold=0, is_ceiling=True, num=num)


def _folders(out: Path) -> set[str]:
    return {path.name for path in out.iterdir() if path.is_dir()}


def _known(mapping: Path) -> dict[str, str]:
    """Returns which request is whose, as an earlier call wrote it down."""
    known = {row["customer_id"]: row["request_id"] for row in read_table(mapping, _MAPPING)} if mapping.is_file() else {}
    if not all(_REQUEST.fullmatch(request) for request in known.values()):  # folders are removed by these names
        raise CommandError(f"{mapping} holds a request_id that was not made here", hint="restore the file, or begin a new one")
    return known


def _people(path: Path) -> list[Row]:
    rows = read_table(path, _CUSTOMER)
    for line, row in enumerate(rows, start=1):
        if len(row["customer_id"]) < _LEAST_ID:
            raise CommandError(f"{path}: row {line}: a customer_id has at least {_LEAST_ID} characters, to be searched for")
    if len({row["customer_id"] for row in rows}) < len(rows):
        raise CommandError(f"{path}: a customer_id stands twice", hint="one row a customer")
    return rows


def _erase(invocation: Invocation, customer: str, known: dict[str, str], mapping: Path, out: Path) -> int:
    request = known.pop(customer, None)
    if request is None:
        raise CommandError(f"{customer!r:.60} is not in {mapping}", hint="nothing is kept about them")
    shutil.rmtree(out / request, ignore_errors=True)
    _write(mapping, known)
    delivery = mapping.with_name("delivery.csv")
    if delivery.is_file():
        rows = [row for row in read_table(delivery, ("customer_id", "file", "segment")) if row["customer_id"] != customer]
        write_table(delivery, rows)
    left = find_bytes((mapping.parent, out), [customer])
    return tell(
        invocation,
        [_ceiling("files beside the mapping and the clips that still name the customer", len(left), 1)],
        facts=[("erased", 1), ("still named in", ", ".join(str(path) for path in left))],
    )


def _write(mapping: Path, known: Mapping[str, str]) -> None:
    rows = [{"customer_id": customer, "request_id": request} for customer, request in known.items()]
    if rows:
        write_table(mapping, rows)
        mapping.chmod(0o600)
    else:
        mapping.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(run(command, "marketing"))
