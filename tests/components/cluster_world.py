"""A run whose training is a cluster's work."""

import json
import socket
from dataclasses import replace

from components.runtime import RunContext
from components.train_dit.config import Config
from infra.home import Home
from infra.identities import first_identity
from infra.run_records import begin_run

RUN = "6b1f6f0e-5f2d-4c58-9d2c-0d5b3a1f7c11"
CONFIG = Config(
    num_steps=100,
    learning_rate=5e-4,
    batch_size=4,
    warmup_steps=10,
    hidden_size=16,
    depth=1,
    num_heads=2,
    qk_norm=True,
    device="cpu",
    checkpoint_every_steps=10,
)
SHORT = CONFIG.model_copy(update={"num_steps": 12, "warmup_steps": 2})


def begin(home: Home) -> RunContext:
    actor = first_identity(home.database)
    begin_run(home, run_id=RUN, pipeline="training", runner="in-process", params={}, actor=actor)
    return RunContext(home=home, run_id=RUN, pipeline="training", actor=actor)


def on_one_machine(home: Home) -> Home:
    plan = json.loads(home.settings.train_job)
    plan["job"]["num_nodes"] = 1
    return replace(home, settings=replace(home.settings, train_job=json.dumps(plan)))


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
