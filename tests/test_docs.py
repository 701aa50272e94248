"""Documentation says what is."""

from __future__ import annotations

import re
import runpy

import pytest
from places import REPOSITORY as ROOT

from neuro_assets.assets.catalog import step_models
from neuro_assets.outcomes import Outcome, SkipReason
from neuro_assets.parameters.sorting import SortingParameters


def test_the_page_of_parameters_is_that_of_the_models():
    written = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    document = runpy.run_path(str(ROOT / "docs" / "write_parameters.py"))["document"]
    assert written == document(), "run python docs/write_parameters.py"


@pytest.mark.parametrize("model", [*step_models().values(), SortingParameters])
def test_every_field_has_a_description_and_every_set_a_source(model):
    meanings = runpy.run_path(str(ROOT / "docs" / "write_parameters.py"))["meanings"](model)
    assert all(meanings.get(name) for name in model.model_fields)
    assert model.sets and all(chosen.source for chosen in model.sets.values())


def test_every_outcome_and_reason_is_explained():
    page = (ROOT / "docs" / "outcomes.md").read_text(encoding="utf-8")
    assert [o.value for o in Outcome if f"`{o.value}`" not in page] == []
    used = {
        match
        for path in (ROOT / "neuro_assets").rglob("*.py")
        for match in re.findall(r"SkipReason\.([A-Z_]+)", path.read_text(encoding="utf-8"))
    }
    assert [name for name in used if f"`{SkipReason[name].value}`" not in page] == []


def test_every_link_in_the_documentation_leads_somewhere():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_name_in_the_workspace_and_the_project_file_is_the_same_module():
    workspace = (ROOT / "workspace.yaml").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (module,) = re.findall(r"module_name: (\S+)", workspace)
    assert f'code_location_target_module = "{module}"' in project
