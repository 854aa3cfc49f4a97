"""What the metrics say, against what has happened in a home."""

import os
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from governance.errors import IntegrityError
from infra.gpu_usage import GpuSampler, read_gpus, read_samples
from infra.ledger import sign_checkpoint
from infra.monitoring import reference
from infra.monitoring.catalogue import METRICS, Families
from infra.monitoring.platform_metrics import PlatformMetrics
from infra.monitoring.served_models import ServedModels
from infra.run_records import begin_run, end_run
from tests.infra.package_inputs import NAME
from tests.infra.promotion.world import RUN, World
from tests.monitored_world import COMPLETED, add_step, fill_monitored, package_of_its_own

ROOT = Path(__file__).parents[3]
_FIRST = ("pipeline", "run", "step", "attempt", "rule", "model", "environment", "version")
ORDER = list(dict.fromkeys([*_FIRST, *(label for one in METRICS for label in one.labels), "le"]))


class Scraped:
    """The metrics of a home, as Prometheus's own parser reads them."""

    def __init__(self, world: World) -> None:
        self.served = ServedModels(world.home)
        self.metrics = PlatformMetrics(world.home, self.served, version="1.2.3")
        self.served.verify_all()

    def families(self) -> dict[str, Metric]:
        return {family.name: family for family in text_string_to_metric_families(self.metrics.render().decode())}

    def values(self) -> dict[tuple[str, ...], float]:
        return {
            (sample.name, *(sample.labels[name] for name in sorted(sample.labels, key=ORDER.index))): sample.value
            for family in self.families().values()
            for sample in family.samples
        }


def test_every_metric_of_the_catalogue_is_exported_as_it_says_and_no_other(world: World) -> None:
    fill_monitored(world)
    families = Scraped(world).families()
    exported = {}
    for family in families.values():
        labels = {tuple(name for name in sample.labels if name != "le") for sample in family.samples}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        exported[name] = (family.type, {frozenset(one) for one in labels}, family.documentation)
    assert exported == {one.name: (one.kind, {frozenset(one.labels)}, one.meaning) for one in METRICS}


def test_metrics_say_what_has_happened(world: World) -> None:
    fill_monitored(world)
    found = Scraped(world).values()
    assert found["groundswell_runs", "training", "running"] == 1
    assert found["groundswell_runs", "training", "completed"] == 1
    assert found["groundswell_runs", "codec", "failed"] == 1
    assert found["groundswell_run_last_state", "codec", "failed"] == 1
    assert found["groundswell_run_last_state", "training", "failed"] == 0
    assert found["groundswell_run_duration_seconds_count", "training"] == 1
    assert 0 < found["groundswell_run_duration_seconds_sum", "training"] < 60
    assert ("groundswell_run_last_success_timestamp_seconds", "codec") not in found
    assert found["groundswell_step_status", "codec", "validate_data", "failed"] == 1
    assert found["groundswell_step_metric", "training", "validate_data", "num_items"] == 12
    assert found["groundswell_running_step_rate", "training", RUN, "train_dit"] == 4.5
    assert found["groundswell_running_step_completed", "training", RUN, "train_dit"] == 600
    assert found["groundswell_gpu_utilization_ratio", "training", RUN, "train_dit", "0"] == 0.93
    assert found["groundswell_served_model_verified", NAME, "production", "1"] == 1
    assert found["groundswell_model_versions", NAME, "missing"] == 3
    assert found["groundswell_generation_refused_total", "terms", "violence"] == 1
    assert found["groundswell_assets_withheld_total",] == 1
    assert found["groundswell_audit_append_failures_total",] == 1
    assert found["groundswell_promotion_pending", NAME, "production"] == 1
    assert sum(value for key, value in found.items() if key[:2] == ("groundswell_promotion_refused_total", "approve")) == 1
    assert found["groundswell_ledger_unsigned_entries",] > 0


def test_what_happens_between_two_scrapes_is_counted_once(world: World) -> None:
    scraped = Scraped(world)
    before = scraped.values()
    fill_monitored(world)
    first, second, anew = scraped.values(), scraped.values(), Scraped(world).values()
    changing = {"groundswell_scrape_seconds", "groundswell_served_model_checked_timestamp_seconds"}
    served = ("groundswell_served_model_verified", "groundswell_served_model_withdrawn_items")
    kept = [{key: value for key, value in one.items() if key[0] not in {*changing, *served}} for one in (first, second, anew)]
    assert kept[0] == kept[1] == kept[2]
    assert before["groundswell_assets_generated_total",] == 0
    assert first["groundswell_assets_generated_total",] == 1
    end_run(world.home, run_id=RUN, status="failed")
    after = scraped.values()
    assert (after["groundswell_runs", "training", "running"], after["groundswell_runs", "training", "failed"]) == (0, 1)
    assert after["groundswell_run_last_state", "training", "failed"] == 1
    assert not any(key[0].startswith("groundswell_running_step") for key in after)


def test_a_step_that_is_done_part_by_part_is_one_which_fails_with_a_part(world: World) -> None:
    begin_run(world.home, run_id=COMPLETED, pipeline="generation", runner="subprocess", params={}, actor="system")
    for part, status in (("0001", "completed"), ("0002", "failed"), ("0003", "reused")):
        add_step(world, COMPLETED, f"generate_batch-{part}", status=status, metrics={"num_files": 4})
    add_step(world, COMPLETED, "collect_results", status="completed", metrics={"num_files": 12})
    end_run(world.home, run_id=COMPLETED, status="failed")
    found = Scraped(world).values()
    assert found["groundswell_step_status", "generation", "generate_batch", "failed"] == 1
    assert found["groundswell_step_status", "generation", "generate_batch", "completed"] == 0
    assert found["groundswell_step_work_seconds", "generation", "generate_batch"] == 4.5
    assert found["groundswell_step_status", "generation", "collect_results", "completed"] == 1
    assert found["groundswell_step_metric", "generation", "collect_results", "num_files"] == 12


def test_a_head_that_is_signed_leaves_nothing_waiting(world: World) -> None:
    scraped = Scraped(world)
    sign_checkpoint(world.db, world.home.keys)
    found = scraped.values()
    assert found["groundswell_ledger_unsigned_entries",] == 0
    assert ("groundswell_ledger_unsigned_since_timestamp_seconds",) not in found
    begin_run(
        world.home, run_id="0198f3a2-0003-7c3e-9a51-3f2f6f0a7b11", pipeline="codec", runner="dvc", params={}, actor="system"
    )
    found = scraped.values()
    assert found["groundswell_ledger_unsigned_entries",] == 1
    assert found["groundswell_ledger_unsigned_since_timestamp_seconds",] > 0


@pytest.mark.parametrize("world", ["sqlite"], indirect=True)
def test_a_served_package_that_lost_its_signature_is_told(world: World, tmp_path: Path) -> None:
    world.promote(1)
    package = package_of_its_own(world, 1, tmp_path)
    scraped = Scraped(world)
    assert scraped.values()["groundswell_served_model_verified", NAME, "production", "1"] == 1
    (package / "model.sig").unlink()
    scraped.served.verify_all()
    assert scraped.values()["groundswell_served_model_verified", NAME, "production", "1"] == 0
    [verdict] = scraped.served.verdicts().values()
    assert "model.sig" in verdict.problem or "signed" in verdict.problem


def test_a_metric_that_the_catalogue_has_not_is_a_defect() -> None:
    with pytest.raises(KeyError):
        Families().add("groundswell_unknown", 1.0)
    with pytest.raises(ValueError, match="has the labels"):
        Families().add("groundswell_runs", 1.0, "training")


def test_the_page_about_metrics_is_up_to_date() -> None:
    page = (ROOT / "docs" / "METRICS.md").read_text(encoding="utf-8")
    assert page == reference.render(), "python -m infra.monitoring.reference docs/METRICS.md"


def test_gpus_are_read_from_nvidia_smi_and_written_beside_the_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\nprintf "0, 97, 40960, 81559\\n1, [N/A], 0, 81559\\n2, 0, 3, 81559\\n"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    gpus = read_gpus()
    assert [(one.gpu, one.utilization, one.memory_used_bytes) for one in gpus] == [("0", 0.97, 40960 << 20), ("2", 0.0, 3 << 20)]
    path = tmp_path / "train_dit.gpus"
    sampler = GpuSampler(path, interval_s=0.01)
    for _ in range(500):
        if path.is_file():
            break
        sampler._is_over.wait(0.01)
    sampler.stop()
    assert read_samples(path, newer_than=0) == gpus
    assert read_samples(path, newer_than=1e12) == []
    path.write_text("{")
    assert read_samples(path, newer_than=0) == []
    program.write_text("#!/bin/sh\nexit 9\n")
    assert read_gpus() == []


def test_entries_about_tokens_that_break_a_rule_are_told(world: World) -> None:
    with world.db.unit_of_work() as uow:
        uow.append("token.revoked", "token:0", {})
    with pytest.raises(IntegrityError, match="breaks a rule of tokens"):
        Scraped(world).values()
