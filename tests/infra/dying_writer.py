"""A process that opens a database and is killed at a moment of its choice: ``python -m tests.infra.dying_writer URL``.

It takes one JSON line an order on standard input and answers each with one on standard output. The order ``{"kill_at": N}`` has a
child write one unit of work and kill itself at its N-th moment: before a statement, after it, before the commit. The answer says
where that was, or that the child lived. The order ``{"append_for_s": S}`` has a child append without end, kills it after so
long, and answers the size of the ledger after the last commit that the child saw return;
its rows are numbered from ``number`` on.
"""

import json
import os
import signal
import sys
import time

from sqlalchemy import event, insert

from infra.database import Database
from infra.tables import artifacts

NUM_ENTRIES = 3


def write_unit(db, number):
    """Writes rows, a commitment and entries in one unit of work, with entries flushed in the middle."""
    digest = f"{number:064x}"
    with db.unit_of_work() as uow:
        values = {"kind": "dataset", "location": "/data", "facts": "{}", "created": uow.time}
        uow.connection.execute(insert(artifacts).values(digest=digest, **values))
        uow.append("dataset.imported", f"dataset:{digest}", {"note_commitment": uow.commit_to("a text")})
        uow.flush()
        for _ in range(NUM_ENTRIES - 1):
            uow.append("test.appended", "x:1", {})
        return uow.size


def die_at(engine, moment, told):
    """Kills this process at a moment of the next unit of work, after it said which that is."""
    seen = 0

    def reached(when, statement):
        nonlocal seen
        if seen == moment:
            os.write(told, f"{when} {statement.split(' (')[0][:60]}".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    event.listen(engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: reached("before", statement))
    event.listen(engine, "after_cursor_execute", lambda _c, _cursor, statement, *_: reached("after", statement))
    event.listen(engine, "commit", lambda _: reached("before", "COMMIT"))


def kill_at(url, moment):
    """Has a child die at a moment; returns where, or None where it wrote all and lived."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        db = Database.open(url)
        die_at(db.engine, moment, writer)
        write_unit(db, moment)
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as told:
        where = told.read()
    assert os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if where else 0)
    return where or None


def append_for(url, seconds, number):
    """Has a child append until it is killed; returns the size that the last commit which it saw left behind."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        db = Database.open(url)
        while True:
            number += 1
            os.write(writer, b"%d\n" % write_unit(db, number))
    os.close(writer)
    with os.fdopen(reader) as told:
        first = told.readline()
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return int(told.read().rpartition("\n")[0].rpartition("\n")[2] or first)


def main():
    """Answers orders until there are no more."""
    url = sys.argv[1]
    for line in sys.stdin:
        order = json.loads(line)
        answer = kill_at(url, order["kill_at"]) if "kill_at" in order else append_for(url, order["append_for_s"], order["number"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
