"""The generated pages are what their generators print now, as far as nothing is measured for them."""

from __future__ import annotations

from pathlib import Path

from tools import columns, experiments

REPOSITORY = Path(__file__).parents[2]


def test_the_page_of_columns_is_current() -> None:
    page = (REPOSITORY / "docs" / "columns.md").read_text()
    assert page == "\n".join(columns.lines()) + "\n", "run `python -m tools.columns > docs/columns.md`"


def test_every_experiment_has_a_section_on_the_page_of_experiments() -> None:
    files = {path.stem for path in experiments.CONF.glob("*.yaml")}
    assert {*experiments.EXPERIMENTS, *experiments.WITHOUT_SECTION} == files
    assert len(set(experiments.EXPERIMENTS)) == len(experiments.EXPERIMENTS)
