"""Prometheus' HTTP API over the numeric fields of all nodes, for dashboards that speak it.

References
----------
https://prometheus.io/docs/prometheus/latest/querying/api/
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from sisock.errors import BadRequest, SisockError, TimedOut, TooLarge
from sisock.times import Clock, SystemClock
from sisock_hub.gateway.field_directory import FieldDirectory
from sisock_hub.gateway.parameters import Parameters, parameters
from sisock_hub.gateway.promql import FloatArray, NotSupported, Query, Selector, Series, answers, parse, parse_selector
from sisock_hub.gateway.promql.matching import matching
from sisock_hub.gateway.promql.moments import length, moment, steps
from sisock_hub.gateway.promql.naming import FIELD_METRIC
from sisock_hub.gateway.promql.selection import MOST_SAMPLES
from sisock_hub.gateway.promql.series import NAME
from sisock_hub.gateway.query_client import QueryClient
from sisock_hub.gateway.sampling import Sampler, label_sets_of

TIMEOUT_S = 10.0
"""Seconds within which a node must answer by default; else its series are missing, and a warning names it."""
PROMETHEUS = "3.0.0"
"""The version of Prometheus whose API and meaning of queries this follows."""

_MOST_SELECTORS = 100
_TRUNCATED = "results truncated due to limit"


class _PrometheusRoute(APIRoute):
    """Answers errors in the format of Prometheus."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except (NotSupported, TooLarge) as error:
                return _failed(422, "execution", error)
            except BadRequest as error:
                return _failed(400, "bad_data", error)
            except TimedOut as error:
                return _failed(503, "timeout", error)
            except SisockError as error:
                return _failed(503, "unavailable", error)

        return answer


def prometheus(
    client: QueryClient,
    directory: FieldDirectory,
    *,
    clock: Clock | None = None,
    timeout_s: float = TIMEOUT_S,
    most_samples: int = MOST_SAMPLES,
) -> APIRouter:
    """Return the routes of Prometheus' HTTP API, ``/api/v1/...``, to be mounted anywhere.

    Parameters
    ----------
    client : QueryClient
        Of a `sisock.consumer.Consumer` that its owner opens and closes.
    directory : FieldDirectory
    clock : sisock.times.Clock, optional
        The machine's when not given.
    timeout_s : float
        Seconds within which each node must answer.
    most_samples : int
        Most samples per series that are read as they are; above it they are downsampled.
    """
    clock = clock or SystemClock()
    api = _Api(directory, Sampler(client.with_timeout(timeout_s), directory, most_samples), clock)
    router = APIRouter(prefix="/api/v1", route_class=_PrometheusRoute, include_in_schema=False)
    for path, answer, methods in (
        ("/query", api.query, ["GET", "POST"]),
        ("/query_range", api.query_range, ["GET", "POST"]),
        ("/series", api.series, ["GET", "POST"]),
        ("/labels", api.labels, ["GET", "POST"]),
        ("/label/{name}/values", api.label_values, ["GET"]),
        ("/metadata", api.metadata, ["GET"]),
        ("/status/buildinfo", api.buildinfo, ["GET"]),
    ):
        router.add_api_route(path, _endpoint(answer), methods=methods)
    return router


def _endpoint(answer: Callable[[Parameters], Coroutine[Any, Any, bytes]]) -> Callable[..., Any]:
    async def endpoint(request: Request) -> Response:
        return Response(await answer(await parameters(request)), media_type="application/json")

    return endpoint


def _failed(status: int, kind: str, error: Exception) -> Response:
    return Response(answers.failure(kind, str(error)), status, media_type="application/json")


class _Api:
    """The answers of each path."""

    def __init__(self, directory: FieldDirectory, sampler: Sampler, clock: Clock) -> None:
        self._directory, self._sampler, self._clock = directory, sampler, clock

    async def query(self, asked: Parameters) -> bytes:
        """Return the values at one time."""
        query = parse(asked.required("query"))
        text = asked.get("time")
        time = moment("time", text) if text else round(self._clock.now(), 3)
        times = steps(time, time, 1.0)

        def data(series: list[Series]) -> bytes:
            return answers.scalar(time, float(series[0].values[0])) if query.is_scalar else answers.vector(series)

        return await self._evaluated(query, times, 0.0, data)

    async def query_range(self, asked: Parameters) -> bytes:
        """Return the values at evenly spaced times."""
        query = parse(asked.required("query"))
        start, end = (moment(name, asked.required(name)) for name in ("start", "end"))
        step_s = length("step", asked.required("step"))
        return await self._evaluated(query, steps(start, end, step_s), step_s, answers.matrix)

    async def _evaluated(
        self, query: Query, times: FloatArray, step_s: float, data: Callable[[list[Series]], bytes]
    ) -> bytes:
        first, last = float(times[0]), float(times[-1])
        selections = query.selections
        asked = await asyncio.gather(*(self._sampler.tracks(each, first, last, step_s) for each in selections))
        samples = {selection: tracks for selection, (tracks, _) in zip(selections, asked, strict=True)}
        warnings = dict.fromkeys(warning for _, more in asked for warning in more)
        # In a thread, so that others are answered meanwhile.
        made = await asyncio.to_thread(lambda: data(query.evaluate(samples, times)))
        return answers.success(made, list(warnings))

    async def series(self, asked: Parameters) -> bytes:
        """Return the labels of all selected series."""
        if not asked.all("match[]"):
            raise BadRequest("the parameter match[] is missing; give at least one selector")
        label_sets, warnings = await self._label_sets(asked)
        return _listed([dict(labels) for labels in label_sets], asked, warnings)

    async def labels(self, asked: Parameters) -> bytes:
        """Return the names of all labels of the selected series."""
        label_sets, warnings = await self._label_sets(asked)
        return _listed(sorted({label for labels in label_sets for label in labels}), asked, warnings)

    async def label_values(self, asked: Parameters) -> bytes:
        """Return the values of a label."""
        name = asked.path["name"]
        label_sets, warnings = await self._label_sets(asked)
        return _listed(sorted({labels[name] for labels in label_sets if name in labels}), asked, warnings)

    async def metadata(self, asked: Parameters) -> bytes:
        """Return descriptions and units of the metrics, from their fields."""
        wanted, limit, per_metric = asked.get("metric"), asked.limit(), asked.limit("limit_per_metric")
        fields, warnings = await self._directory.fields()
        about: dict[str, dict[tuple[str, str], None]] = {}
        for node, infos in fields.items():
            for info in infos.values():
                for labels in label_sets_of(node, info):
                    about.setdefault(labels[NAME], {})[info.description or "", labels.get("units", "")] = None
        about[FIELD_METRIC] = {("A numeric field of a data node", ""): None}
        data = {
            # Nodes do not report whether a number is a counter.
            metric: [{"type": "unknown", "help": text, "unit": unit} for text, unit in list(entries)[:per_metric]]
            for metric, entries in sorted(about.items())
            if wanted in (None, metric)
        }
        return answers.success(answers.plain(dict(list(data.items())[:limit])), warnings)

    async def buildinfo(self, _asked: Parameters) -> bytes:
        """Return the version of the API."""
        unknown = dict.fromkeys(("revision", "branch", "buildUser", "buildDate", "goVersion"), "")
        return answers.success(answers.plain({"version": PROMETHEUS, **unknown}))

    async def _label_sets(self, asked: Parameters) -> tuple[list[Mapping[str, str]], list[str]]:
        selectors = _selectors(asked.all("match[]"))
        times = [moment(name, text) for name in ("start", "end") if (text := asked.get(name))]
        if len(times) == 2 and times[1] < times[0]:
            raise BadRequest(f"end ({times[1]:.15g}) lies before start ({times[0]:.15g})")

        def meant(node: str) -> bool:
            return not selectors or any(selector.may_match({"node": node}) for selector in selectors)

        fields, warnings = await self._directory.fields(meant)
        known = [
            labels for node, infos in fields.items() for info in infos.values() for labels in label_sets_of(node, info)
        ]
        return matching(selectors, known), warnings


def _selectors(texts: Iterable[str]) -> list[Selector]:
    found = [parse_selector(text) for text in dict.fromkeys(texts)]
    if len(found) > _MOST_SELECTORS:
        raise BadRequest(f"there are {len(found)} selectors in match[]; at most {_MOST_SELECTORS} are taken")
    return found


def _listed(entries: list[Any], asked: Parameters, warnings: list[str]) -> bytes:
    limit = asked.limit()
    if limit is not None and len(entries) > limit:
        entries, warnings = entries[:limit], [*warnings, _TRUNCATED]
    return answers.success(answers.plain(entries), warnings)
