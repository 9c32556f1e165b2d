"""PromQL over arrays, against slow and obvious oracles."""

import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.errors import BadRequest, TooLarge
from sisock_hub.gateway.promql import Matcher, NotSupported, Selector, Track, parse, parse_selector
from sisock_hub.gateway.promql.answers import matrix, number, points, scalar, vector
from sisock_hub.gateway.promql.moments import length, moment, steps
from sisock_hub.gateway.promql.naming import label_sets, metric_name
from sisock_hub.gateway.promql.series import Series

T0 = 1_700_000_000.0
SPANS = [1, 7, 60, 300]


def track(t, values, labels=None, stride_s=0.0):
    return Track(labels or {"__name__": "m", "node": "a"}, np.asarray(t, float), np.asarray(values, float), stride_s)


def evaluate(text, tracks, times):
    query = parse(text)
    (selection,) = query.selections
    return query.evaluate({selection: tracks}, np.asarray(times, float))


def as_dict(series):
    return dict(zip(series.t.tolist(), series.values.tolist(), strict=True))


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for time, value in theirs.items():
        assert math.isclose(ours[time], value, rel_tol=1e-9, abs_tol=1e-9) or (
            math.isnan(value) and math.isnan(ours[time])
        ), (time, ours[time], value)


# The oracles: Prometheus' definitions, a window and a sample at a time.


def window(t, values, time, span):
    return [(at, value) for at, value in zip(t, values, strict=True) if time - span < at <= time]


def slow_increase(inside, time, span):
    if len(inside) < 2:
        return None
    (first_t, first), (last_t, last) = inside[0], inside[-1]
    result, before = last - first, first
    for _, value in inside[1:]:
        if value < before:
            result += before
        before = value
    to_start, to_end, sampled = first_t - (time - span), time - last_t, last_t - first_t
    mean = sampled / (len(inside) - 1)
    if to_start >= mean * 1.1:
        to_start = mean / 2
    if result > 0 and first >= 0:
        to_start = min(to_start, sampled * (first / result))
    if to_end >= mean * 1.1:
        to_end = mean / 2
    return result * ((sampled + to_start + to_end) / sampled)


def slow_extreme(choose):
    def extreme(inside, _time, _span):
        numbers = [value for _, value in inside if not math.isnan(value)]
        return (choose(numbers) if numbers else math.nan) if inside else None

    return extreme


def slow_mean(inside, _time, _span):
    values = [value for _, value in inside]
    if not values:
        return None
    if {math.inf, -math.inf} <= set(values):
        return math.nan
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else sum(values)


def slow_rate(inside, time, span):
    rise = slow_increase(inside, time, span)
    return None if rise is None else rise / span


ORACLES = {
    "rate": slow_rate,
    "increase": slow_increase,
    "avg_over_time": slow_mean,
    "min_over_time": slow_extreme(min),
    "max_over_time": slow_extreme(max),
    "last_over_time": lambda inside, _time, _span: inside[-1][1] if inside else None,
    "count_over_time": lambda inside, _time, _span: float(len(inside)) or None,
}

moments = st.lists(st.integers(0, 4000), unique=True, max_size=60).map(lambda ns: [T0 + n / 4 for n in sorted(ns)])
plain = st.integers(-50, 50).map(float) | st.floats(-1e6, 1e6)
odd = plain | st.sampled_from([math.nan, math.inf, -math.inf])
grids = st.tuples(st.integers(-400, 1200), st.integers(1, 400), st.integers(1, 12)).map(
    lambda g: [T0 + g[0] + i * g[1] / 4 for i in range(g[2])]
)


@st.composite
def tracks(draw, values):
    t = draw(moments)
    return t, draw(st.lists(values, min_size=len(t), max_size=len(t)))


@pytest.mark.parametrize("function", list(ORACLES))
@given(data=st.data(), times=grids, span=st.sampled_from(SPANS), offset=st.sampled_from([0, 60, -60]))
def test_function_is_what_prometheus_defines(function, data, times, span, offset):
    t, values = data.draw(tracks(plain if function in ("rate", "increase") else odd))
    text = f"{function}(m[{span}s]{f' offset {offset}s' if offset else ''})"
    expected = {}
    for time in times:
        inside = window(t, values, time - offset, span)
        if (result := ORACLES[function](inside, time - offset, span)) is not None:
            expected[time] = result
    found = evaluate(text, [track(t, values)], times)
    same(as_dict(found[0]) if found else {}, expected)


@given(tracks(odd), grids, st.sampled_from([0, 60, -60]))
def test_instant_selector_takes_the_newest_sample_of_five_minutes(samples, times, offset):
    text = "m" + (f" offset {offset}s" if offset else "")
    inside = {time: window(*samples, time - offset, 300) for time in times}
    found = evaluate(text, [track(*samples)], times)
    same(as_dict(found[0]) if found else {}, {time: each[-1][1] for time, each in inside.items() if each})


def test_range_leaves_out_its_left_end_and_takes_its_right():
    found = evaluate("count_over_time(m[10s])", [track([T0, T0 + 5, T0 + 10], [1, 1, 1])], [T0 + 10])
    assert found[0].values.tolist() == [2.0]
    assert evaluate("m", [track([T0], [1])], [T0 + 299.999])
    assert not evaluate("m", [track([T0], [1])], [T0 + 300])


def test_a_huge_value_spoils_only_its_own_windows():
    values = np.ones(1000)
    values[10], values[20] = 1e300, np.inf
    found = evaluate("avg_over_time(m[5s])", [track(T0 + np.arange(1000.0), values)], T0 + np.arange(100.0, 900.0))
    assert (found[0].values == 1.0).all()


def test_mean_of_what_overflows_when_summed_is_right():
    found = evaluate("avg_over_time(m[10s])", [track(T0 + np.arange(4.0), [1e308] * 4)], [T0 + 5])
    assert found[0].values.tolist() == [1e308]


def test_counter_that_begins_anew_goes_on_from_zero():
    t = T0 + np.arange(0.0, 60.0, 10.0)
    # Rises by 5 every 10 s; began anew between the third and the fourth sample.
    found = evaluate("increase(m[60s])", [track(t, [5, 10, 15, 5, 10, 15])], [T0 + 50])
    assert found[0].values[0] == pytest.approx((15 - 5 + 15) * (50 + 10) / 50)


names = st.sampled_from(["a", "b", "c"])
labelled = st.dictionaries(
    st.tuples(names, names), st.lists(st.none() | plain | st.just(math.nan), min_size=3, max_size=3), max_size=6
)


@pytest.mark.parametrize("operation", ["sum", "avg", "min", "max"])
@pytest.mark.parametrize("modifier", ["", "by (x)", "by (y, x)", "by (none)", "without (x)", "without (y, none)"])
@given(members=labelled)
def test_aggregation_is_what_prometheus_defines(operation, modifier, members):
    times = [T0 + 1000.0 * i for i in range(3)]
    given_tracks, expected = [], {}
    for (x, y), values in members.items():
        labels = {"__name__": "m", "x": x, "y": y}
        there = [(time, value) for time, value in zip(times, values, strict=True) if value is not None]
        given_tracks.append(track([t for t, _ in there], [v for _, v in there], labels))
        named = {name.strip() for name in modifier.partition("(")[2].rstrip(")").split(",")}
        keeps = not modifier.startswith("without")
        kept = {k: v for k, v in labels.items() if (k in named if keeps else k not in named | {"__name__"})}
        for time, value in there:
            expected.setdefault((frozenset(kept.items()), time), []).append(value)
    results = {}
    for key, values in expected.items():
        numbers = [v for v in values if not math.isnan(v)]
        match operation:
            case "sum":
                results[key] = sum(values)
            case "avg":
                results[key] = sum(values) / len(values)
            case "min":
                results[key] = min(numbers, default=math.nan)
            case _:
                results[key] = max(numbers, default=math.nan)
    found = evaluate(f"{operation} {modifier} (m)", given_tracks, times)
    same(
        {(frozenset(s.labels.items()), time): v for s in found for time, v in as_dict(s).items()},
        results,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("m + 1", 8.0),
        ("1 + m", 8.0),
        ("m - 10", -3.0),
        ("10 - m", 3.0),
        ("-m", -7.0),
        ("--m", 7.0),
        ("m * 2 / 4", 3.5),
        ("14 / m", 2.0),
        ("-m % 4", -3.0),
        ("m % -4", 3.0),
        ("m % 0", math.nan),
        ("m / 0", math.inf),
        ("-m / 0", -math.inf),
        ("m ^ 2", 49.0),
        ("2 ^ m", 128.0),
        ("-m ^ 2", -49.0),
        ("(m + 1) * (2 + 3)", 40.0),
        ("2 ^ 3 ^ 2 - m", 505.0),
        ("sum(m) * 8", 56.0),
    ],
)
def test_arithmetic_with_constants(text, expected):
    (series,) = evaluate(text, [track([T0], [7.0])], [T0])
    assert series.values[0] == pytest.approx(expected, nan_ok=True)
    assert "__name__" not in series.labels


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1+1", 2.0), ("-2^2", -4.0), ("7 % 4 * 2", 6.0), ("0/0", math.nan), ("1/0", math.inf), ("-(1 - 3)", 2.0)],
)
def test_constant_expression_is_a_scalar(text, expected):
    query = parse(text)
    assert query.is_scalar
    assert query.selections == ()
    (series,) = query.evaluate({}, np.array([T0, T0 + 1]))
    np.testing.assert_equal(series.values, [expected] * 2)


def test_names_are_kept_by_selectors_and_dropped_by_functions():
    tracks_ = [track([T0, T0 + 1], [1, 2])]
    for text, kept in (("m", True), ("last_over_time(m[1m])", True), ("rate(m[1m])", False), ("m * 1", False)):
        assert ("__name__" in evaluate(text, tracks_, [T0 + 1])[0].labels) is kept, text


def test_two_series_that_differ_in_their_name_alone_are_refused_where_it_is_dropped():
    both = [track([T0, T0 + 1], [1, 2], {"__name__": name, "node": "a"}) for name in ("m", "n")]
    assert len(evaluate('{node="a"}', both, [T0 + 1])) == 2
    for text in ('rate({node="a"}[1m])', '{node="a"} + 1'):
        with pytest.raises(NotSupported, match="same labels"):
            evaluate(text, both, [T0 + 1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("topk(3, m)", "the aggregation topk"),
        ("count(m)", "the aggregation count"),
        ("irate(m[5m])", "the function irate"),
        ("vector(1)", "the function vector"),
        ("time()", "the function time"),
        ("m > 1", "the operator >"),
        ("1 > bool 2", "the operator >"),
        ("m and n", "the operator and"),
        ("m + n", r"\+ between two vectors"),
        ("m atan2 1", "the operator atan2"),
        ("m @ 5", "the modifier @"),
        ("rate(m[5m:1m])", "rate of a subquery"),
        ("m[5m]", "a range of samples"),
        ("m[5m:1m]", "a subquery"),
        ('"text"', "a string"),
        ('m{a="b" or c="d"}', "or between matchers"),
    ],
)
def test_what_is_not_supported_is_named_with_what_is(text, said):
    with pytest.raises(NotSupported, match=f"^{said}.* is not supported; supported are: .*avg_over_time.*without"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "m{", "rate(m)", "sum(1)", "m[0s]", "foo(m)", 'm{a=~"("}', "{}", "1 +", "m[99999999999999y]", "\x00"],
)
def test_what_is_no_promql_is_a_bad_request(text):
    with pytest.raises(BadRequest):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "1" + "+1" * 10_000,
        "(" * 10_000 + "1" + ")" * 10_000,
        "-" * 10_000 + "m",
        "1" * 100_000,
        '# "\n' + "1" + "+1" * 10_000 + '# "',
    ],
)
def test_query_that_would_overflow_the_parser_is_refused(text):
    with pytest.raises(BadRequest, match="the query has"):
        parse(text)


def test_the_deepest_queries_that_are_taken_fit_a_thread():
    texts = ["m" + "+1" * 249, "-" * 499 + "m", "sum(" * 166 + "m" + ")" * 166, "(" * 249 + "m" + ")" * 249]
    results = []
    before = threading.stack_size(1 << 20)
    try:
        thread = threading.Thread(
            target=lambda: results.extend(evaluate(text, [track([T0], [1])], [T0]) for text in texts)
        )
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert [each[0].values.tolist() for each in results] == [[250.0], [-1.0], [1.0], [1.0]]


@pytest.mark.parametrize(
    ("operator", "value", "text", "matches"),
    [
        ("=", "a", "a", True),
        ("!=", "a", "a", False),
        ("=", "", None, True),
        ("!=", "a", None, True),
        ("=~", "a.*", "abc", True),
        ("=~", "b", "abc", False),
        ("=~", "a|abc", "abc", True),
        ("=~", ".+", None, False),
        ("=~", ".*", None, True),
        ("=~", "a.c", "a\nc", True),
        ("=~", "(?i)ABC", "abc", True),
        ("!~", "a.*", "abc", False),
        ("!~", "b", "abc", True),
        ("=~", "a$", "a\n", False),
    ],
)
def test_matchers(operator, value, text, matches):
    labels = {} if text is None else {"x": text}
    assert Matcher("x", operator, value).matches(labels) is matches


def test_pattern_that_would_take_other_engines_for_ever_is_quick():
    assert not Matcher("x", "=~", "(a+)+b").matches({"x": "a" * 10_000})


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "(?=a)", r"(a)\1", "(a{1000}){1000}"])
def test_bad_pattern_is_refused_clearly(pattern):
    with pytest.raises(BadRequest, match="is not a regular expression"):
        Matcher("x", "=~", pattern)


def test_selection_says_what_it_needs():
    (selection,) = parse('rate(cpu{node=~"a|b"}[2m] offset 1h)').selections
    assert selection.selector == Selector((Matcher("__name__", "=", "cpu"), Matcher("node", "=~", "a|b")))
    assert (selection.use, selection.span_s, selection.offset_s) == ("rate", 120.0, 3600.0)
    interval = selection.interval(T0, T0 + 60)
    assert interval == (T0 - 3720.0, pytest.approx(T0 - 3540.0))
    assert interval.end > T0 - 3540.0  # a sample at the last time counts, while sisock's intervals are half-open


def test_interval_never_becomes_relative_to_now():
    for start, end in ((0.0, 10.0), (-100.0, -50.0), (0.0, 0.0)):
        low, high = parse("m").selections[0].interval(start, end)
        assert 0 < low <= high


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("m", "first"),
        ("rate(m[1h])", "first"),
        ("last_over_time(m[1h])", "first"),
        ("avg_over_time(m[1h])", "mean"),
        ("min_over_time(m[1h])", "min"),
        ("max_over_time(m[1h])", "max"),
    ],
)
def test_above_the_limit_a_thinned_answer_keeps_the_meaning(text, method):
    (selection,) = parse(text).selections
    day = 86400.0
    assert selection.need(T0, T0 + day, 60.0, 1.0, 100_000).min_stride is None
    need = selection.need(T0, T0 + day, 600.0, 0.01, 100_000)
    assert need.downsample == method
    assert need.min_stride <= min(600.0, selection.span_s) / 8
    assert need.expected <= 100_000
    unknown = selection.need(T0, T0 + day, 600.0, None, 100_000)
    assert (unknown.min_stride, unknown.downsample, unknown.max_points) == (None, method, 100_000)


@pytest.mark.parametrize(("text", "said"), [("count_over_time(m[1h])", "counted"), ("rate(m[1s])", "too few")])
def test_above_the_limit_what_would_lose_its_meaning_is_refused(text, said):
    with pytest.raises(TooLarge, match=said):
        parse(text).selections[0].need(T0, T0 + 1e6, 600.0, 0.01, 100_000)


def test_instant_selector_over_decades_looks_back_as_far_as_the_samples_are_apart():
    (selection,) = parse("m").selections
    need = selection.need(T0 - 1e9, T0, 1e6, 1.0, 1_000_000)
    assert need.min_stride > 300
    t = np.arange(T0 - 1e7, T0, need.min_stride)
    (series,) = evaluate("m", [track(t, t, stride_s=need.min_stride)], T0 - np.arange(0.0, 5e6, 1e6)[::-1])
    assert len(series.t) == 5


@pytest.mark.parametrize(
    ("field", "metric"),
    [("cpu.total", "cpu_total"), ("a b-c/d", "a_b_c_d"), ("7", "_7"), ("Δp", "_p"), ("a:b", "a:b"), ("ok", "ok")],
)
def test_metric_name_of_a_field(field, metric):
    assert metric_name(field) == metric


def test_fields_that_share_a_metric_are_told_apart_by_their_label():
    a, b = (label_sets("n", field, "K")[1] for field in ("t.1", "t-1"))
    assert a["__name__"] == b["__name__"] == "t_1"
    assert (a["field"], b["field"]) == ("t.1", "t-1")
    assert label_sets("n", "sisock_field", None) == [{"__name__": "sisock_field", "node": "n", "field": "sisock_field"}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, "NaN"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (0.0, "0"),
        (-0.0, "-0"),
        (2.0, "2"),
        (10.0, "10"),
        (0.1, "0.1"),
        (-1.5, "-1.5"),
        (1e-5, "0.00001"),
        (1.5e-6, "0.0000015"),
        (1e-7, "1e-07"),
        (1.25e-12, "1.25e-12"),
        (1e16, "10000000000000000"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
    ],
)
def test_numbers_are_written_as_prometheus_does(value, text):
    assert number(value) == text
    assert points(np.array([T0]), np.array([value])) == b'[[1700000000,"%s"]]' % text.encode()


@given(st.lists(st.tuples(st.integers(0, 4 * 10**12), st.floats()), max_size=20))
def test_points_are_the_numbers_one_by_one(pairs):
    t = [ms / 1000 for ms, _ in pairs]
    text = points(np.array(t, float), np.array([value for _, value in pairs], float)).decode()
    assert (
        text
        == "[" + ",".join(f'[{number(at)},"{number(value)}"]' for at, (_, value) in zip(t, pairs, strict=True)) + "]"
    )


def test_results_are_json():
    series = [Series({"a": 'q"%s,['}, np.array([T0, T0 + 0.5]), np.array([1.5, np.nan]))]
    assert matrix(series) == (
        b'{"resultType":"matrix","result":[{"metric":{"a":"q\\"%s,["},"values":[[1700000000,"1.5"],[1700000000.5,"NaN"]]}]}'
    )
    one = [Series({}, np.array([T0]), np.array([1.0]))]
    assert vector(one) == b'{"resultType":"vector","result":[{"metric":{},"value":[1700000000,"1"]}]}'
    assert scalar(T0, 2.0) == b'{"resultType":"scalar","result":[1700000000,"2"]}'
    assert vector([]) == b'{"resultType":"vector","result":[]}'


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1700000000", T0),
        ("1700000000.1239", T0 + 0.124),
        ("1.7e9", T0),
        ("-5", -5.0),
        ("2023-11-14T22:13:20Z", T0),
        ("2023-11-14T23:13:20.5+01:00", T0 + 0.5),
        ("2023-11-14T22:13:20.123456789Z", T0 + 0.123),
    ],
)
def test_moments(text, seconds):
    assert moment("time", text) == seconds


@pytest.mark.parametrize(
    "text", ["", "NaN", "Inf", "now", "1e400", "1700000000000", "2023-11-14", "2023-02-30T00:00:00Z", "1_0", "0x10"]
)
def test_what_is_no_moment_is_refused_with_what_it_is(text):
    with pytest.raises(BadRequest, match=f"^time is '{text}'"):
        moment("time", text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15", 15.0), ("0.5", 0.5), ("15s", 15.0), ("1h30m", 5400.0), ("1d", 86400.0), ("250ms", 0.25)],
)
def test_lengths(text, seconds):
    assert length("step", text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "NaN", "1.5m", "0.0001", "m", "1s1h", "1e300", "9" * 400 + "y"])
def test_what_is_no_length_is_refused(text):
    with pytest.raises(BadRequest, match="^step is "):
        length("step", text)


def test_steps_are_whole_milliseconds_and_include_both_ends():
    times = steps(T0 + 0.1, T0 + 1.1, 0.1)
    assert times.tolist() == [1_700_000_000 + n / 10 for n in range(1, 12)]
    assert steps(T0, T0, 1.0).tolist() == [T0]
    assert len(steps(0.0, 11_000.0, 1.0)) == 11_001
    with pytest.raises(BadRequest, match="choose 1.001 s or more"):
        steps(0.0, 11_001.0, 1.0)
    with pytest.raises(BadRequest, match="lies before start"):
        steps(1.0, 0.0, 1.0)


@pytest.mark.parametrize("text", ["m offset 5m", "m[5m]", "rate(m[5m])", "1", "sum(m)"])
def test_match_takes_selectors_only(text):
    with pytest.raises(BadRequest, match="is not a selector of series"):
        parse_selector(text)


def test_patterns_are_anchored_whatever_brackets_they_have():
    for pattern in ("zzz)|(?:odd", "a)(b", "(?s:", ")"):
        with pytest.raises(BadRequest, match="not a regular expression"):
            Matcher("node", "=~", pattern)
    assert not Matcher("node", "=~", "zzz|odd").matches({"node": "odder"})
