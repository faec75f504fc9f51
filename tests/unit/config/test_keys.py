"""Each key is defined once: with a description, in the schema and in the reference, both of which are current."""

from dataclasses import dataclass, fields, is_dataclass

import jsonschema
import pytest
import yaml

from checkouts import ROOT
from prerl.config import json_schema, reference
from prerl.config.key import COUNT, from_dict, key, keys_of, select
from prerl.config.scale import Config, Scale
from prerl.config.scales import config_files
from prerl.config.training import TrainingSettings, UpdateSettings

BLOCKS = [settings for _, settings in reference.blocks(Config, "")]


def test_the_committed_schema_is_current():
    assert (ROOT / "config.schema.json").read_text(encoding="utf-8") == json_schema.text(), "run `make reference`"


def test_the_committed_reference_is_current():
    assert (ROOT / "docs/config.md").read_text(encoding="utf-8") == reference.reference(), "run `make reference`"


@pytest.mark.parametrize("file", config_files(), ids=lambda file: file.name)
def test_the_files_fit_the_schema_that_an_editor_holds_them_against(file):
    schema = json_schema.schema(complete=False)
    if file.name != "config.yaml":
        schema = {"$ref": "#/$defs/Scale", "$defs": schema["$defs"]}
        assert file.read_text(encoding="utf-8").startswith(
            "# yaml-language-server: $schema=../config.schema.json#/$defs/"
        )
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    if file.name == "config.yaml":
        content["scales"] = {}
    jsonschema.Draft202012Validator(schema).validate(content)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(content | {"speed": 1})


@pytest.mark.parametrize("settings", BLOCKS, ids=lambda settings: settings.__name__)
def test_every_field_of_a_block_is_a_key_with_a_description(settings):
    assert is_dataclass(settings) and settings.__doc__ and not settings.__doc__.startswith(f"{settings.__name__}(")
    assert [field.name for field in fields(settings)] == list(keys_of(settings))
    assert all(len(known.description) > 5 for _, known, _ in keys_of(settings).values())


def test_the_schema_has_every_key_once():
    definitions = json_schema.schema()["$defs"]
    for settings in BLOCKS:
        if settings is not Config:
            names = {settings.__name__, f"Whole{settings.__name__}"} & set(definitions)
            assert names and all(list(definitions[name]["properties"]) == list(keys_of(settings)) for name in names)
    assert "seeds" in definitions["Scale"]["required"] and "required" not in definitions["PartOfScale"]


@dataclass(frozen=True)
class Inner:
    """A block within a block."""

    pair: tuple[float, float] = key("two numbers")
    by_length: dict[int, float] = key("numbers by whole numbers")


@dataclass(frozen=True)
class Outer:
    """A block."""

    inner: Inner = key("within")
    many: list[int] = key("whole numbers", COUNT)
    perhaps: Inner | None = key("may be left out", optional=True)


def test_a_job_gets_the_types_that_json_has_not():
    values = {"inner": {"pair": [0.5, 1], "by_length": {"2": 1.0}}, "many": [1]}
    assert from_dict(Outer, values) == Outer(inner=Inner(pair=(0.5, 1), by_length={2: 1.0}), many=[1], perhaps=None)
    with pytest.raises(TypeError, match="speed"):
        from_dict(Outer, values | {"speed": 1})
    with pytest.raises(TypeError, match="many"):
        from_dict(Outer, {"inner": values["inner"]})


def test_a_training_job_is_told_of_the_update_and_not_of_the_length_of_phases():
    assert set(keys_of(TrainingSettings)) - set(keys_of(UpdateSettings)) == {
        "total_updates", "early_runs", "eos_in_mask", "tracker", "phase_switch"
    }  # fmt: skip
    assert select(UpdateSettings, {"eps": 1e-8, "total_updates": 60}) == {"eps": 1e-8}


def test_the_blocks_of_a_scale_are_reached():
    assert Scale in BLOCKS and UpdateSettings not in BLOCKS and TrainingSettings in BLOCKS
