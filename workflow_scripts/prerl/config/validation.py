"""The configuration against its schema: unknown keys, types, bounds; each fault with key, value and remedy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

import jsonschema
import yaml

from prerl.config.errors import ConfigError, nearest
from prerl.config.json_schema import schema

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, ten times as fast, where PyYAML has it


class _UniqueKeyLoader(LOADER):  # type: ignore[misc, valid-type]
    """YAML in which a key that is written twice is an error (YAML itself keeps the last, silently)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        merge = "tag:yaml.org,2002:merge"  # <<, whose keys a block may change
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != merge]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"{node.start_mark.name}: the key {key!r} occurs twice in one block; remove one")
        return super().construct_mapping(node, deep)


def refuse_duplicate_keys(files: list[str]) -> None:
    """Raises ConfigError if one of the config files holds a key twice in the same block."""
    for file in files:
        with open(file, encoding="utf-8") as stream:
            yaml.load(stream, Loader=_UniqueKeyLoader)


def _is_finite(checker: jsonschema.TypeChecker, value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("number", _is_finite),  # no .nan, no .inf
)
RENAMED = {
    "training.updates": "training.total_updates",
    "evaluation.updates": "evaluation.extra_updates",
    "warmup_sweep.updates": "warmup_sweep.lengths",
    "validation.samples": "validation.samples_per_question",
    "evaluation.samples": "evaluation.samples_per_question",
    "advantages": "estimator",
}
"""Keys of earlier versions -> of this one; `advantages`: of a phase."""
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a block of keys",
    "null": "null",
}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def _faults_of_keys(error: jsonschema.ValidationError, where: str) -> Iterator[str]:
    """Unknown keys with the nearest known one, and missing keys that no unknown one explains."""
    known = error.schema.get("properties", error.instance)  # none listed: no key is unknown here
    unknown = [key for key in error.instance if key not in known]
    if error.validator == "additionalProperties":
        for key in unknown:
            renamed = RENAMED.get(key if ".phases." in where else ".".join(f"{where}{key}".split(".")[-2:]))
            hint = f"; it is now `{renamed}`" if renamed else nearest(key, known)
            yield f"{where}{key}: unknown key; keys are {', '.join(known)}{hint}"
    else:
        for key in error.validator_value:
            if key not in error.instance and not nearest(key, unknown):
                yield f"{where}{key}: missing; give it a value"


def _fault_of_value(error: jsonschema.ValidationError) -> str:
    """What is wrong with a value: the value, and what it must be."""
    value, rule, wanted = error.instance, error.validator, error.validator_value
    written = json.dumps(value)
    if rule == "type":
        kinds = " or ".join(_TYPES[kind] for kind in ([wanted] if isinstance(wanted, str) else wanted))
        number = "number" in kinds and isinstance(value, str)
        return f"{written} is not {kinds}" + ("; no quotes, and 1.0e-4 (YAML takes 1e-4 for text)" if number else "")
    if rule == "enum":
        return f"{written} is none of {', '.join(wanted)}{nearest(value, wanted)}"
    if rule == "const":
        return f"{written} is neither a number nor {wanted!r}; write one of them"
    if rule in _BOUNDS:
        return f"{written} must be {_BOUNDS[rule]} {wanted}"
    if rule == "uniqueItems":
        return f"{written} holds {', '.join(repr(v) for v in value if value.count(v) > 1)}; remove the repetition"
    if rule in ("minItems", "minProperties") and not value:
        return "empty; give at least one"
    if rule == "oneOf":
        names = ", ".join(option["required"][0] for option in wanted)
        null = ", and null for one that is inherited" if len(value) > 1 else ""
        return f"holds {', '.join(value) or 'nothing'}; give exactly one of {names}{null}"
    return f"{written} is not allowed here"


def schema_faults(config: Mapping) -> list[str]:
    """One line for each violation: the key, the value, and what to write (`x-remedy` in the schema)."""
    faults: set[str] = set()
    for violation in _Validator(schema()).iter_errors(config):
        error = violation
        if violation.validator != "oneOf":
            error = jsonschema.exceptions.best_match([violation])  # of alternatives that all fail, the nearest
        where = ".".join(str(part) for part in error.absolute_path)
        if error.validator in ("additionalProperties", "required"):
            faults.update(_faults_of_keys(error, f"{where}." if where else ""))
        else:
            name = "the name " if "propertyNames" in error.absolute_schema_path else ""
            remedy = f"; {error.schema['x-remedy']}" if "x-remedy" in error.schema else ""
            faults.add(f"{where}: {name}{_fault_of_value(error)}{remedy}")
    return sorted(faults)
