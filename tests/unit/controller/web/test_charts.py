import math
import re
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from markupsafe import Markup

from controller.web import charts
from controller.web.charts import Latency, Layer, Sizes, Value
from controller.web.pareto import Point, pareto
from controller.web.svg import WIDTH, Scale, scale_of

HOSTILE = '"><script>alert(1)</script>&'


def of(chart: Markup) -> ET.Element:
    """Read a chart; it must be well-formed, named, described, without styles and inside its frame."""
    root = ET.fromstring(chart)
    assert root.attrib["role"] == "img"
    assert [child.tag for child in root[:2]] == ["title", "desc"]
    assert root[0].text
    assert root[1].text
    height = float(root.attrib["viewBox"].split()[3])
    for element in root.iter():
        assert "style" not in element.attrib
        for name, limit in (("x", WIDTH), ("cx", WIDTH), ("x2", WIDTH), ("y", height), ("cy", height), ("y2", height)):
            if name in element.attrib:
                assert 0 <= float(element.attrib[name]) <= limit, ET.tostring(element)
    return root


def with_class(root: ET.Element, class_: str) -> list[ET.Element]:
    return [element for element in root.iter() if element.attrib.get("class") == class_]


def width(element: ET.Element) -> float:
    return float(element.attrib["width"])


def point(
    name: str, wire: float, value: float, *, latency: float = 10.0, front: bool = True, chosen: bool = False
) -> Point:
    return Point(name, wire, value, latency, front, chosen)


CHARTS: dict[str, Callable[[str], Markup]] = {
    "sizes": lambda name: charts.sizes([Sizes(name, 100, 50, marked=True)]),
    "values": lambda name: charts.values([Value(name, 0.9, (0.8, 1.0), 0.9)], name),
    "latencies": lambda name: charts.latencies([Latency(name, 1.0, 2.0, 3.0)], name),
    "layers": lambda name: charts.layers([Layer(name, 0.5, 8, 0.1)]),
    "bought": lambda name: charts.bought([(name, 100), (name, 50)]),
    "pareto": lambda name: pareto([point(name, 100, 0.9, chosen=True)], name),
}


@pytest.mark.parametrize("draw", CHARTS.values(), ids=CHARTS)
def test_names_are_text_whatever_they_hold(draw: Callable[[str], Markup]) -> None:
    chart = draw(HOSTILE)
    assert "<script" not in chart
    assert any(HOSTILE in (element.text or "") for element in of(chart).iter())


@pytest.mark.parametrize(
    "chart",
    [
        charts.sizes([]),
        charts.sizes([Sizes("a", None, None)]),
        charts.values([], None),
        charts.latencies([], "c"),
        charts.layers([]),
        charts.bought([]),
        charts.bought([("source", 10)]),
        pareto([], None),
    ],
)
def test_a_chart_of_nothing_is_no_chart(chart: Markup) -> None:
    assert chart == ""


def test_bars_are_as_long_as_sizes_are_large() -> None:
    root = of(charts.sizes([Sizes("a", 1000, 500), Sizes("b", 250, None)]))
    assert width(with_class(root, "wire")[0]) == pytest.approx(width(with_class(root, "file")[0]) / 2, abs=0.2)
    assert width(with_class(root, "file")[1]) == pytest.approx(width(with_class(root, "file")[0]) / 4, abs=0.2)
    assert len(with_class(root, "wire")) == 1


@pytest.mark.parametrize("size", [0, 1, 10**15])
def test_sizes_of_any_magnitude_are_drawn(size: int) -> None:
    assert width(with_class(of(charts.sizes([Sizes("a", size, size)])), "file")[0]) >= 1


def test_a_value_lies_between_the_ends_of_its_whiskers_and_beside_its_own_source() -> None:
    rows = [Value("a", 0.9, (0.85, 0.92), 0.905), Value("b", 0.88, None, 0.89, marked=True)]
    root = of(charts.values(rows, "accuracy"))
    (first,), (second,) = with_class(root, "value"), with_class(root, "chosen")
    low, high = (float(with_class(root, "whisker")[0].attrib[name]) for name in ("x1", "x2"))
    assert low < float(first.attrib["cx"]) < high
    sources = [float(one.attrib["x1"]) for one in with_class(root, "source")]
    assert sources[0] > sources[1] > float(second.attrib["cx"])
    assert len(with_class(root, "whisker")) == 3  # of the first alone


def test_equal_values_without_intervals_stand_in_the_middle() -> None:
    root = of(charts.values([Value("a", 0.9, None, 0.9), Value("b", 0.9, None, None)], "r2"))
    assert len({one.attrib["cx"] for one in with_class(root, "value")}) == 1


def test_latencies_rise_to_the_right_over_many_magnitudes() -> None:
    root = of(charts.latencies([Latency("a", 0.5, 1.0, 2.0), Latency("b", 2e6, 3e6, 9e6)], "camera"))
    quick, slow = (float(one.attrib["cx"]) for one in with_class(root, "value"))
    assert quick < slow
    assert root[0].text == "Latency on camera, p50 to p99"


def test_a_layer_without_zeros_or_error_has_an_empty_track() -> None:
    root = of(charts.layers([Layer("a", 0.0, 32, None), Layer("b", 1.0, 4, 0.2)]))
    assert len(with_class(root, "track")) == 6
    assert [len(with_class(root, name)) for name in ("zeros", "bits", "error")] == [1, 2, 1]
    narrow, wide = sorted(map(width, with_class(root, "bits")))
    assert wide / narrow == pytest.approx(8, rel=0.05)


def test_more_layers_than_can_be_seen_are_cut_and_the_rest_is_told() -> None:
    root = of(charts.layers([Layer(f"layer {n}", 0.1, 8, 0.1) for n in range(charts.LAYERS_MOST + 5)]))
    assert len(with_class(root, "bits")) == charts.LAYERS_MOST
    assert "5 more" in str(root[1].text)


def test_what_a_step_saves_and_what_it_adds_are_told_apart() -> None:
    root = of(charts.bought([("source", 1000), ("prune", 400), ("same", 400), ("golden", 500)]))
    (saved,), (grown,) = with_class(root, "saved"), with_class(root, "grown")
    assert width(saved) / width(grown) == pytest.approx(6, rel=0.03)


def test_the_front_is_joined_where_it_rises_and_the_chosen_one_is_ringed_and_named() -> None:
    points = [
        point("small", 1_000, 0.85, chosen=True),
        point("quick", 5_000, 0.84, latency=1.0),
        point("good", 20_000, 0.9),
        point("beaten", 22_000, 0.8, front=False),
    ]
    root = of(pareto(points, "accuracy"))
    (front,), (chosen,), (ring,) = (with_class(root, name) for name in ("front", "chosen", "ring"))
    small, good = front.attrib["points"].split()
    assert small == f"{float(chosen.attrib['cx']):.1f},{float(chosen.attrib['cy']):.1f}"
    assert float(good.split(",")[1]) < float(small.split(",")[1])
    assert float(ring.attrib["r"]) > float(chosen.attrib["r"])
    assert [element.text for element in with_class(root, "marked")] == ["small"]
    assert "Chosen: small." in str(root[1].text)
    assert "beaten" not in [element.text for element in root.iter("text")]


def test_the_slower_the_answer_the_larger_the_dot() -> None:
    root = of(pareto([point("slow", 1_000, 0.9, latency=400.0), point("quick", 2_000, 0.8, latency=1.0)], None))
    slow, quick = (float(one.attrib["r"]) for one in with_class(root, "on-front"))
    assert slow > 2 * quick


def test_names_of_points_that_lie_together_do_not_cover_each_other() -> None:
    root = of(pareto([point(f"candidate-{n}", 1_000 + n, 0.9) for n in range(20)] + [point("far", 9e5, 0.1)], None))
    places = [
        (float(one.attrib["x"]), float(one.attrib["y"]))
        for one in root.iter("text")
        if str(one.text).startswith("candidate")
    ]
    assert 1 <= len(places) < 20
    for number, (x, y) in enumerate(places):
        assert all(abs(x - other_x) > 60 or abs(y - other_y) >= 12 for other_x, other_y in places[number + 1 :])


@pytest.mark.parametrize("values", [[1.0, 9.0], [10_000.0, 11_000.0], [3.0, 3.0], [0.001, 1e9]])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_an_axis_has_a_few_ticks_inside_it(values: list[float], *, logarithmic: bool) -> None:
    scale = scale_of(values, 100, 400, logarithmic=logarithmic)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 7
    assert ticks == sorted(ticks)
    assert all(100 <= scale(tick) <= 400 for tick in ticks)


def test_a_scale_runs_from_start_to_end_also_backwards() -> None:
    upwards = Scale(0, 10, 300, 100)
    assert [upwards(value) for value in (0, 5, 10)] == [300, 200, 100]
    assert math.isclose(Scale(1, 100, 0, 10, logarithmic=True)(10), 5)


def test_a_long_name_is_cut_and_told_in_full_to_who_points_at_it() -> None:
    name = "a-recipe-with-a-very-long-name-indeed"
    chart = charts.sizes([Sizes(name, 10, 5)])
    assert re.search(r">a-recipe-with-a-very-lon…<title>" + name, chart)
