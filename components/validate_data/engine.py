"""Great Expectations over tables of a million rows: the same judgements, without copies of what they are not about.

`PandasExecutionEngine` works over whole tables. For each metric it copies every column of the rows that it looks at, it hashes
all cells for a fingerprint that nothing here reads, and it makes a dictionary of every row that fails, which is then copied and
written several times over. The engine here gives each metric its own columns, takes no fingerprint (as Great Expectations
itself does from 1 GB on), and keeps the rows that fail as an array; the result and the Data Docs get the first of them.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from great_expectations.core.batch_spec import RuntimeDataBatchSpec
from great_expectations.datasource.fluent import PandasDatasource
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.execution_engine.pandas_batch_data import PandasBatchData

ROW = "row"
"""The column that each table has beside those that expectations are about."""
LISTED_ROWS = 200
"""How many rows that fail an expectation its result and the Data Docs list: as many as Great Expectations lists values."""

Places = npt.NDArray[np.int64]
"""int64 [rows]: places in a table, ascending."""
_INDEX_LIST = ".unexpected_index_list"
_FINGERPRINT = "pandas_data_fingerprint"


class TableEngine(PandasExecutionEngine):  # type: ignore[misc]
    """Judges tables with a default index and a column `row`.

    Attributes:
        failed: The places of all rows that do not meet a condition, by the id of the metric that lists them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.failed: dict[tuple[str, ...], Places] = {}

    def get_batch_data_and_markers(self, batch_spec: Any) -> tuple[PandasBatchData, Any]:
        """Returns the table and when it was taken up."""
        if not (isinstance(batch_spec, RuntimeDataBatchSpec) and isinstance(batch_spec.batch_data, pd.DataFrame)):
            return super().get_batch_data_and_markers(batch_spec)  # type: ignore[no-any-return]
        table = batch_spec.batch_data
        batch_spec.batch_data = table.iloc[:0]
        _, markers = super().get_batch_data_and_markers(batch_spec)
        markers.pop(_FINGERPRINT, None)  # of the empty table
        return PandasBatchData(execution_engine=self, dataframe=table), markers

    def get_domain_records(self, domain_kwargs: dict[str, Any]) -> pd.DataFrame:
        """Returns the rows that an expectation is about, with its own columns and `row`."""
        records: pd.DataFrame = super().get_domain_records(domain_kwargs)
        columns = domain_columns(domain_kwargs)
        wanted = list(dict.fromkeys([*columns, ROW]))
        return records[wanted] if columns and set(wanted) <= set(records.columns) else records

    def resolve_metrics(
        self,
        metrics_to_resolve: Iterable[Any],
        metrics: dict[Any, Any] | None = None,
        runtime_configuration: dict[str, Any] | None = None,
    ) -> dict[Any, Any]:
        """Resolves metrics; of lists of failed rows, keeps all as an array and resolves the first `LISTED_ROWS`."""
        listing = [metric for metric in metrics_to_resolve if metric.metric_name.endswith(_INDEX_LIST)]
        others = [metric for metric in metrics_to_resolve if not metric.metric_name.endswith(_INDEX_LIST)]
        resolved = dict(super().resolve_metrics(others, metrics, runtime_configuration)) if others else {}
        for metric in listing:
            condition = metric.metric_dependencies["unexpected_condition"].id
            unexpected, *domain = (metrics or {})[condition]
            flags = unexpected if isinstance(unexpected, pd.Series) else pd.Series(unexpected)
            places = np.flatnonzero(flags.to_numpy(dtype=bool))
            self.failed[metric.id] = flags.index.to_numpy(dtype=np.int64)[places]
            first = np.zeros(len(flags), dtype=bool)
            first[places[:LISTED_ROWS]] = True
            known = {**(metrics or {}), condition: (pd.Series(first, index=flags.index), *domain)}
            resolved.update(super().resolve_metrics([metric], known, runtime_configuration))
        return resolved

    def failed_places(self, expectation: Any, result_format: Mapping[str, Any]) -> Places:
        """Returns the places of all rows that an expectation was not met by, none for one about a whole column.

        Args:
            expectation: As it was run, with its batch.
            result_format: With what it was run.
        """
        needed = expectation.get_validation_dependencies(
            execution_engine=self, runtime_configuration={"result_format": dict(result_format)}
        ).metric_configurations
        ids = [metric.id for name, metric in needed.items() if name.endswith(_INDEX_LIST)]
        return self.failed[ids[0]] if ids else np.zeros(0, dtype=np.int64)


class TableSource(PandasDatasource):  # type: ignore[misc]
    """Where Great Expectations takes tables from: `context.data_sources.add_groundswell_tables`."""

    type: Literal["groundswell_tables"] = "groundswell_tables"
    execution_engine_override: ClassVar[Any] = TableEngine


def domain_columns(kwargs: Mapping[str, Any]) -> list[str]:
    """Returns the columns that the arguments of an expectation or a metric name."""
    single = [str(kwargs[name]) for name in ("column", "column_A", "column_B") if kwargs.get(name)]
    return [*single, *map(str, kwargs.get("column_list") or ())]
