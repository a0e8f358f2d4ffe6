"""The HTML report: what is in it, and that a real browser draws it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from results.app import main
from results.report.drawing import TITLE_WIDTH, sheet
from results.report.in_short import in_short
from results.report.subject import Subject
from results.store.dataset import DataSet
from tests.results import many
from tests.results.chromium import NEEDS_BROWSER, visit
from tests.results.rows import KINDS, OUTCOMES, faults, run_row, store, vcpu_rows

PLOTS = ("scaling", "crossover0", "crossover1", "latency", "stages", "outcomes", "locality")

MARKS = """
return [...document.querySelectorAll("figure[data-plot]")].map(figure => ({
  plot: figure.dataset.plot,
  series: Number(figure.dataset.series),
  drawn: [...figure.querySelectorAll("[id*='series-']")].filter(mark => {
    const box = mark.getBoundingClientRect();
    return box.width + box.height > 1 && mark.querySelector("path, use, rect, polyline");
  }).length,
  size: [figure.querySelector("svg").getBoundingClientRect().width, figure.querySelector("svg").getBoundingClientRect().height],
  text: figure.querySelectorAll("svg text").length,
}));
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on 90 runs of three strategies, five numbers of vCPUs and three mixes, open loop, and one run that failed."""
    folder = tmp_path_factory.mktemp("report")
    dataset = many.make(str(folder / "dataset"), 90, 45_000, open_loop=True)
    store(dataset, "bad", status="crashed", reason="an actor <died>", strategy="uffd_wait", vcpus=1)
    assert main(["report", str(folder / "dataset"), "--out", str(folder / "report.html")]) == 0
    return folder / "report.html"


class Links(HTMLParser):
    """Every address that the page would fetch, and ids that are there twice."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        for name in ("src", "href", "xlink:href"):
            value = values.get(name) or ""
            if value and not value.startswith(("#", "data:")):
                self.fetched.append(f"{tag} {value}")
        if values.get("id"):
            self.ids.append(str(values["id"]))


def test_the_page_is_one_file_that_fetches_nothing_and_runs_nothing(page: Path) -> None:
    text = page.read_text()
    links = Links()
    links.feed(text)
    assert links.fetched == []
    assert "<script" not in text and "@import" not in text and not re.search(r"url\((?!#)", text)
    assert len(links.ids) == len(set(links.ids))
    assert text.count("<figure data-plot=") == len(PLOTS)


def test_the_page_says_what_is_in_it_what_speaks_against_it_and_how_to_repeat_it(page: Path) -> None:
    text = page.read_text()
    for said in (
        "91 runs in 1 sweep",
        "1 of 91 runs are not ok and are in no figure: 1 crashed.",
        "an actor &lt;died&gt;",
        "PREDICTED at 64, kpages/s",
        "PREDICTED at 256, kpages/s",
        "loadgen -m made=up",
        "Crossover along fault mix.swapped",
        "a-host",
        "bimodal",
        "Only the fewest and the most vCPUs are shown here; left out: 2, 4, 8 vCPUs",
        "p99 us, median run",
        "p99 us, pooled",
        "from when it was intended",
    ):
        assert said in text, said
    assert re.search(r"<li>fault mix minor, 16 vCPUs: no_slow_gup is 1\d\.\d\d times \(.*\) as fast as uffd_wait", text)


def test_the_plot_of_locality_has_a_legend_of_series_and_a_panel_for_each_configuration(page: Path) -> None:
    [figure] = re.findall(r'<figure data-plot="locality".*?</figure>', page.read_text(), re.S)
    for text in (">uffd_wait<", ">no_slow_gup<", ">fault mix minor, 1 vCPU<", ">fault mix minor, 16 vCPUs<"):
        assert text in figure, text


def test_a_long_title_of_a_panel_is_wrapped_before_the_panel_beside_it() -> None:
    drawn = sheet("long", 2)
    for axes in drawn.panels:
        axes.set_title("prefetch none, " * 10, loc="left")
    lines = re.findall(r">([^<>]*prefetch[^<>]*)<", drawn.svg())
    assert len(lines) > 2 and max(map(len, lines)) <= TITLE_WIDTH


def test_the_law_finds_the_terms_the_rates_were_made_with(page: Path) -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", page.read_text(), re.S)
    law = [re.findall(r"<td.*?>(.*?)</td>", row, re.S) for row in rows if "fault mix minor" in row and "no_uffd_wait" in row]
    terms = next(cells for cells in law if len(cells) == 9)
    assert float(terms[3].split()[0]) == pytest.approx(0.1, abs=0.1)
    assert float(terms[4].split()[0]) == pytest.approx(0.01, abs=0.01)


@NEEDS_BROWSER
def test_a_real_browser_draws_every_plot_and_logs_no_error(page: Path) -> None:
    seen = visit(page, MARKS)
    assert seen.said == [] and seen.console == []
    assert [plot["plot"] for plot in seen.answer] == list(PLOTS)
    for plot in seen.answer:
        assert plot["series"] > 0 and plot["drawn"] == plot["series"], plot
        assert min(plot["size"]) > 150 and plot["text"] > 10, plot


@NEEDS_BROWSER
def test_the_browser_test_notices_an_error_and_a_plot_that_is_not_drawn(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    broken = text.replace('id="scaling-series-1"', 'id="scaling-series-1" display="none"', 1)
    assert broken != text
    bad = tmp_path / "bad.html"
    bad.write_text(broken.replace("</body>", "<script>missing.call()</script><img src='https://example.org/x.png'></body>"))
    seen = visit(bad, MARKS)
    assert any("missing is not defined" in line for line in seen.said)
    assert "IMG" in seen.said
    scaling = seen.answer[0]
    assert scaling["drawn"] == scaling["series"] - 1


def test_a_report_on_millions_of_faults_does_not_hold_them(tmp_path: Path) -> None:
    many.make(str(tmp_path / "dataset"), 6, 3_000_000)
    # 250 MiB of libraries; the faults alone would be 190, and what is computed of them as much again.
    assert many.report(tmp_path).peak_mib < 450


def test_a_data_set_of_one_run_has_a_report_too(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path / "dataset"))
    with dataset.writer("run-a", "sweep-1") as writer:
        writer.faults(KINDS, OUTCOMES).add(np.zeros(60, np.uint16), faults(list(range(1000, 1060))))
        writer.commit(run_row(), vcpu_rows(1.0))
    out = tmp_path / "one.html"
    assert main(["report", dataset.uri, "--out", str(out)]) == 0
    text = out.read_text()
    assert re.findall(r'<figure data-plot="(\w+)"', text) == ["latency", "stages", "outcomes", "locality"]
    assert "one run has no spread" in text
    assert "The runs have no stored command." in text


def test_a_data_set_of_version_1_has_a_report_too(tmp_path: Path) -> None:
    old = Path(__file__).parent / "data" / "version-1"
    assert main(["report", str(old), "--out", str(tmp_path / "old.html")]) == 0
    assert "Not judged: 2 of 2 runs; whether the host was quiet is not known." in (tmp_path / "old.html").read_text()


def test_a_data_set_without_an_ok_run_and_a_folder_that_is_not_there_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = DataSet.open(str(tmp_path / "dataset"))
    store(dataset, "run-a", status="failed", reason="no")
    assert main(["report", dataset.uri, "--out", str(tmp_path / "x.html")]) == 2
    assert "none of 1 runs is ok, so there is nothing to report" in capsys.readouterr().err
    assert main(["report", dataset.uri, "--out", str(tmp_path / "nowhere" / "x.html")]) == 2
    assert "give a file in a folder that is there" in capsys.readouterr().err
    assert list(tmp_path.glob("*.html*")) == []


def test_a_parameter_that_is_an_option_of_the_strategy_is_along_x_and_separates_no_series() -> None:
    runs = [
        {
            "strategy": name,
            "vcpus": 1,
            "sweep_id": "s",
            "repeat": 0,
            "fault_mix": "minor",
            "config_json": f'{{"strategy": {{"name": "{name}", "around": {around}}}}}',
        }
        for name in ("uffd_wait", "no_slow_gup")
        for around in (1, 4)
    ]
    subject = Subject(runs)
    assert subject.numbers() == ["strategy.around"]
    assert list(subject.series(runs)) == [
        *("uffd_wait around=1", "uffd_wait around=4", "no_slow_gup around=1", "no_slow_gup around=4"),
    ]
    assert list(subject.series(runs, "strategy.around")) == ["uffd_wait", "no_slow_gup"]
    assert len(subject.panels("strategy.around")) == 1


def varied(dataset: DataSet, **values: object) -> None:
    """Two repeats of two strategies, no_uffd_wait four times as fast."""
    name = f"{len(dataset.run_ids('runs')):03}"
    for strategy, seconds in (("uffd_wait", 4.0), ("no_uffd_wait", 1.0)):
        for repeat in (0, 1):
            store(dataset, f"{strategy}-{name}-{repeat}", strategy=strategy, repeat=repeat, seconds=seconds, **values)


def test_the_closed_loop_is_no_rate_of_0_on_an_axis(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path / "dataset"))
    for rate in (0.0, 1000.0, 9000.0):
        varied(dataset, rate_per_s=rate)
    assert main(["report", dataset.uri, "--out", str(tmp_path / "x.html")]) == 0
    text = (tmp_path / "x.html").read_text()
    assert "Runs with rate_per_s=0 (closed loop) are not on the axis." in text
    [table] = re.findall(r'id="crossover0".*?<tbody>(.*?)</tbody>', text, re.S)
    assert re.findall(r"<tr><td[^>]*>([^<]*)<", table) == ["1000", "9000"]
    one_left = [run for run in dataset.runs() if run["rate_per_s"] < 2000]
    assert Subject(one_left).numbers() == []


def test_a_headline_of_two_repeats_has_its_coverage_and_names_the_vcpus_left_out(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path / "dataset"))
    for vcpus in (1, 2, 4):
        varied(dataset, vcpus=vcpus)
    sentences = list(in_short(Subject(dataset.runs())))
    assert sentences[0].startswith("1 vCPU: no_uffd_wait is 4.00 times")
    assert sentences[-2].startswith("With 2 repeats these intervals have 50% coverage")
    assert "left out: 2 vCPUs" in sentences[-1]


def test_figures_of_flagged_runs_are_marked_everywhere_on_the_page(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path / "dataset"))
    latencies: dict[str, object] = {"latencies_ns": [1000] * 60}
    for vcpus in (1, 2, 4, 8):
        varied(dataset, vcpus=vcpus, trusted=vcpus != 4, distrust="status poll late (0.8 s)" if vcpus == 4 else None, **latencies)
    assert main(["report", dataset.uri, "--out", str(tmp_path / "x.html")]) == 0
    text = (tmp_path / "x.html").read_text()
    assert "Flagged as noisy: 4 of 16 runs: status poll late (4)" in text
    assert ">no_uffd_wait !<" in text
    assert "2 of 2" in text
    assert text.count(">runs flagged as noisy<") == 2  # the legends of scaling and of the crossover, each with rings
    assert text.count("#b00020") > 3
    assert main(["report", dataset.uri, "--trusted-only", "--out", str(tmp_path / "y.html")]) == 0
    assert "lagged as noisy" not in (tmp_path / "y.html").read_text()


def test_names_beside_numbers_of_flagged_runs_are_marked_in_sentences_bars_headings_and_crossings(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path / "dataset"))
    for vcpus, seconds in ((1, 1.0), (8, 9.0)):
        noise = {"trusted": vcpus == 1, "distrust": None if vcpus == 1 else "status poll late (0.8 s)"}
        for strategy, took_s in (("uffd_wait", 3.0), ("no_uffd_wait", seconds)):
            for repeat in (0, 1):
                name = f"{strategy}-{vcpus}-{repeat}"
                more = {"strategy": strategy, "vcpus": vcpus, "repeat": repeat, "seconds": took_s, **noise}
                store(dataset, name, latencies_ns=[1000] * 200 + [9000] * 200, **more)
    assert main(["report", dataset.uri, "--out", str(tmp_path / "x.html")]) == 0
    text = (tmp_path / "x.html").read_text()
    sentences = re.findall(r"<li>([^<]*as fast[^<]*)</li>", text)
    assert [sentence.partition(" is ")[0] for sentence in sentences] == ["1 vCPU: no_uffd_wait", "8 vCPUs: no_uffd_wait !"]
    assert {"no_uffd_wait !, minor", "no_uffd_wait, minor", "8 vCPUs: minor faults !"} <= set(
        re.findall(r">([^<>]+)</text>", text)
    )
    assert re.search(r">1 to 8<.*?>no_uffd_wait !<.*?>falls behind", text)
    assert re.search(r"no_uffd_wait !, 8 vCPUs: minor faults !: bimodal", text)
