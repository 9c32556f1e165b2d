"""Arrays with at most as many values as a client asks for."""

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sisock.consumer import Data, FieldInfo
from sisock.errors import BadRequest
from sisock.fields import Samples
from sisock.shapes import Axis
from sisock_hub.gateway.array_values import ArrayLimit
from sisock_hub.gateway.encoding import Tables, arrow_writer, csv_writer, data_content, json_bytes

VALUES = st.floats(-1e6, 1e6) | st.just(np.nan)
SPECTRA = st.tuples(st.integers(1, 4), st.integers(1, 40)).flatmap(lambda shape: arrays(float, shape, elements=VALUES))


def maxima(sample, length):
    """The slow twin: the maximum of each block, NaN only where there is nothing else."""
    blocks = [sample[i : i + length] for i in range(0, len(sample), length)]
    return [max((v for v in block if not np.isnan(v)), default=np.nan) for block in blocks]


@given(SPECTRA, st.integers(2, 50))
def test_longer_arrays_have_the_maximum_of_each_block(spectra, most):
    columns, reduced = ArrayLimit(most).apply({"spectrum": spectra})
    assert columns["spectrum"].shape[1] <= most
    if spectra.shape[1] <= most:
        assert columns["spectrum"] is spectra
        assert reduced == {}
        return
    (length,) = reduced["spectrum"]["block"]
    assert reduced["spectrum"]["method"] == "max"
    np.testing.assert_array_equal(columns["spectrum"], [maxima(sample, length) for sample in spectra])


@given(SPECTRA, st.integers(2, 50))
def test_minimum_and_maximum_lose_no_spike(spectra, most):
    columns, reduced = ArrayLimit(most, "minmax").apply({"spectrum": spectra})
    assert columns["spectrum"].shape[1] <= most
    for before, after in zip(spectra, columns["spectrum"], strict=True):
        if np.isfinite(before).any():
            assert np.nanmax(after) == np.nanmax(before)
            assert np.nanmin(after) == np.nanmin(before)
    if reduced and np.isfinite(spectra).all():
        length = reduced["spectrum"]["block"][0]
        for i in range(0, spectra.shape[1], length):
            block, pair = spectra[0, i : i + length], columns["spectrum"][0, 2 * (i // length) :][:2]
            assert sorted(pair) == [block.min(), block.max()]
            assert (pair[0] <= pair[1]) == (block[-1] >= block[0]) or pair[0] == pair[1]


def test_images_are_reduced_in_both_dimensions_and_numbers_are_not():
    image = np.arange(60).reshape(1, 6, 10)
    columns, reduced = ArrayLimit(5, "minmax").apply({"image": image, "x": np.arange(100.0)})
    assert columns["image"].tolist() == [[[11, 13, 15, 17, 19], [31, 33, 35, 37, 39], [51, 53, 55, 57, 59]]]
    assert reduced == {"image": {"method": "max", "block": [2, 2]}}
    assert len(columns["x"]) == 100


@pytest.mark.parametrize("limit", [None, ArrayLimit(2)])
def test_answer_describes_the_arrays_that_the_node_has(limit):
    samples = Samples(np.array([1.0, 2.0]), {"spectrum": np.array([[0.0, np.nan, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]])})
    axis = Axis("frequency", (0.0, 10.0, 20.0, 30.0), "Hz")
    info = FieldInfo("spectrum", "number", "V", None, "tl", None, shape=(4,), axis=axis)
    content = data_content(Data("rig", {"tl": samples}, [], {"spectrum": info}), limit)
    field, timeline = content["fields"]["spectrum"], content["timelines"]["tl"]
    assert field["shape"] == (4,)
    assert field["axis"] == {"name": "frequency", "values": [0.0, 10.0, 20.0, 30.0], "units": "Hz"}
    assert timeline["reduced"] == ({"spectrum": {"method": "max", "block": [2]}} if limit else {})
    whole, few = b"[[0.0,null,2.0,3.0],[4.0,5.0,6.0,7.0]]", b"[[0.0,3.0],[5.0,7.0]]"
    assert json_bytes(timeline["data"]["spectrum"]) == (few if limit else whole)


def written(make, tables, samples):
    writer = make(tables)
    return b"".join([*writer.write(samples), writer.close()])


def test_arrays_are_lists_in_arrow_and_columns_in_csv():
    rng = np.random.default_rng(1)
    spectra, images = rng.normal(size=(3000, 4)), rng.normal(size=(3000, 2, 3))
    spectra[0, 1] = np.nan
    samples = Samples(np.arange(3000.0), {"spectrum": spectra, "image": images, "x": np.arange(3000.0)})
    shapes = {"spectrum": (4,), "image": (2, 3), "x": ()}
    infos = [FieldInfo(name, "number", "V", None, "tl", None, shape=shape) for name, shape in shapes.items()]
    table = pyarrow.ipc.open_stream(written(arrow_writer, Tables(infos, 3000.0), samples)).read_all()
    assert table.schema.field("image").type == pyarrow.list_(pyarrow.list_(pyarrow.float64(), 3), 2)
    assert table.schema.field("spectrum").metadata == {b"units": b"V"}
    assert table["spectrum"][0].as_py() == [spectra[0, 0], None, *spectra[0, 2:]]
    assert np.array_equal(table["image"].to_pylist(), images)
    text = written(csv_writer, Tables(infos, 3000.0, finite=True, flat=True), samples).decode().splitlines()
    places = [f"{row}.{column}" for row in range(2) for column in range(3)]
    names = ["time", *(f"spectrum.{i}" for i in range(4)), *(f"image.{place}" for place in places), "x"]
    assert text[0] == ",".join(f'"{name}"' for name in names)
    assert len(text) == 3001
    values = text[1].split(",")
    assert values[2] == ""
    assert [float(value) for value in values[5:11]] == images[0].ravel().tolist()


def test_csv_of_very_long_arrays_is_refused():
    info = FieldInfo("waveform", "number", "V", None, "tl", None, shape=(20_000,))
    with pytest.raises(BadRequest, match=r"20,000 values; request Arrow or JSON"):
        Tables([info], 1.0, flat=True)
