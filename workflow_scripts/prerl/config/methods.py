"""From config.yaml to jobs: for each method its phases, parent, and updates to keep and to evaluate.

Pure Python without heavy imports: the Snakefile reads it at every run. Updates are counted from 1 over the whole chain
of phases. A method trains only its last phase; the phases before it are its *parent*, another method that is trained
once and continued from its checkpoint (the paper's policy reincarnation).

    dsrl = nsr_prerl for 20 updates, then grpo   ->   parent nsr_prerl, parent_update 20, first_update 21, updates 60
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from prerl.config.errors import ConfigError, nearest
from prerl.config.key import from_dict
from prerl.config.training import TokenMean
from prerl.core.constants import BASE


@dataclass(frozen=True)
class PhaseSettings:
    """What one phase optimises. optimizer: Adam moments at its start, `keep` (those of the phase before) or `fresh`.

    Settings that the phase's estimator does not use have their default. token_mean: None for that of the scale.
    """

    space: str
    samples: str
    coefficient: float
    advantage_std: bool
    eos_in_mask: bool
    optimizer: str
    rewards: str = "graded"
    start: str = "trained"
    estimator: str = "grpo"
    positive_advantage_weight: float = 1.0
    gamma: float = 1.0
    lam: float = 1.0
    token_mean: TokenMean | None = None


@dataclass(frozen=True)
class Phase:
    """A phase and its updates first_update … last_update, counted over the chain."""

    settings: PhaseSettings
    first_update: int
    last_update: int


@dataclass(frozen=True)
class Method:
    """A trained method. parent: the method that it continues after parent_update updates; None: starts from the base.

    kept_updates: updates whose checkpoint is kept; optimizer_updates: those of them that another method continues.
    part_of: the method whose first updates this run is, see _early_runs.
    """

    name: str
    phases: tuple[Phase, ...]
    parent: str | None
    kept_updates: tuple[int, ...]
    optimizer_updates: tuple[int, ...]
    evaluated_updates: tuple[int, ...]
    part_of: str | None = None

    @property
    def stages(self) -> tuple[Phase, ...]:
        """The phases as written: one that two runs share is one again."""
        stages = list(self.phases[:1])
        for before, phase in zip(self.phases, self.phases[1:], strict=False):
            if phase.settings == replace(before.settings, optimizer="keep", start="trained"):
                stages[-1] = replace(stages[-1], last_update=phase.last_update)
            else:
                stages.append(phase)
        return tuple(stages)

    @property
    def first_update(self) -> int:
        """First update that this method trains itself."""
        return self.phases[-1].first_update

    @property
    def parent_update(self) -> int:
        """Updates done before the phase that this method trains; 0 if it starts from the base."""
        return self.first_update - 1

    @property
    def critic(self) -> bool:
        """Whether its training job has PPO's critic."""
        return self.phases[-1].settings.estimator == "gae"

    @property
    def last_update(self) -> int:
        """Last update of the chain."""
        return self.phases[-1].last_update


def _phases(key: str, written: Sequence[Mapping], block: Mapping) -> tuple[Phase, ...]:
    """The phases written at `key` of config.yaml with the scale's defaults filled in and their updates counted."""
    training = block["training"]
    phases: list[Phase] = []
    boundary = 0
    for index, phase in enumerate(written):
        where = f"{key}.phases.{index}"
        last = index == len(written) - 1
        if phase["updates"] == "rest" and not last:
            raise ConfigError(f"{where}.updates: only the last phase may take the `rest`; give a number of updates")
        if index == 0 and "optimizer" in phase:
            raise ConfigError(f"{where}.optimizer: the first phase has no moments to keep; remove the key")
        if phase.get("start") == "random_step" and (index == 0 or phase.get("optimizer") != "fresh"):
            raise ConfigError(
                f"{where}.start: a random step takes the place of the phase before, and its moments fit no such step; "
                "give a later phase `optimizer: fresh`"
            )
        boundary = training["total_updates"] if phase["updates"] == "rest" else boundary + phase["updates"]
        first_update = phases[-1].last_update + 1 if phases else 1
        # official: phase 1 while `step < S`, steps counted from 1 (ray_trainer.py 1251-1259), that is S - 1 updates
        last_update = boundary if last or training["phase_switch"] == "after_step" else boundary - 1
        if last_update > training["total_updates"]:
            raise ConfigError(
                f"{where}.updates: the phase ends at update {last_update}, beyond training.total_updates: "
                f"{training['total_updates']}; lower this or raise that"
            )
        if last_update < first_update:
            raise ConfigError(
                f"{where}.updates: {phase['updates']} leaves the phase no update (training.total_updates: "
                f"{training['total_updates']}, training.phase_switch: {training['phase_switch']}); give it at least one"
            )
        settings = PhaseSettings(
            space=phase["space"],
            samples=phase["samples"],
            coefficient=phase.get("coefficient", _of_space(block["objective"], phase)["coefficient"]),
            eos_in_mask=phase.get("eos_in_mask", training["eos_in_mask"]),
            optimizer=phase.get("optimizer", "keep") if index else "fresh",
            rewards=phase.get("rewards", "graded"),
            start=phase.get("start", "trained"),
            token_mean=from_dict(TokenMean, phase["token_mean"]) if "token_mean" in phase else None,
            **_estimator(where, phase, block["objective"]),
        )
        phases.append(Phase(settings, first_update, last_update))
    return tuple(phases)


def _of_space(objective: Mapping, phase: Mapping) -> Mapping:
    """Block objective.posttrain or objective.pretrain, which the mismatched space shares."""
    return objective["posttrain" if phase["space"] == "posttrain" else "pretrain"]


def _estimator(where: str, phase: Mapping, objective: Mapping) -> dict:
    """The phase's estimator of advantages and its settings. Raises ConfigError if they do not fit each other."""
    name = phase.get("estimator", "grpo")
    for key, owner in (("advantage_std", "grpo"), ("positive_advantage_weight", "psr_nsr")):
        if key in phase and name != owner:
            raise ConfigError(f"{where}.{key}: belongs to `estimator: {owner}`, but this one is {name}; remove it")
    if name == "psr_nsr" and "positive_advantage_weight" not in phase:
        raise ConfigError(
            f"{where}.positive_advantage_weight: missing; `estimator: psr_nsr` needs it (0.1 is W-REINFORCE, 0 NSR)"
        )
    if name in ("reinforce_plus_plus", "gae") and phase["samples"] != "all":
        raise ConfigError(
            f"{where}.samples: {phase['samples']} selects by the sign of a row's advantage, but `estimator: {name}` "
            "gives each token a different one; use all"
        )
    if name == "gae" and phase.get("rewards", "graded") != "graded":
        raise ConfigError(f"{where}.rewards: {phase['rewards']} does not fit `estimator: gae`; remove one of them")
    if name == "gae" and phase["space"] != "posttrain":
        raise ConfigError(
            f"{where}.space: {phase['space']} would hide the prompt from the critic of `estimator: gae`; use posttrain"
        )
    values = {"estimator": name, "advantage_std": False}
    if name == "grpo":
        values["advantage_std"] = phase.get("advantage_std", _of_space(objective, phase)["advantage_std"])
    if name == "psr_nsr":
        values["positive_advantage_weight"] = phase["positive_advantage_weight"]
    if name in ("reinforce_plus_plus", "gae"):
        values["gamma"] = objective["gamma"]
    if name == "gae":
        values["lam"] = objective["lam"]
    return values


def sweep_methods(block: Mapping) -> dict[int, tuple[str, list[dict]]]:
    """S -> (name, phases as written) of the warm-up sweep's derived methods: dsrl with S = 10 is `dsrl_s10`.

    S as written (`updates:` of the first phase); the swept method's S is left out, since it is the method itself.
    """
    swept = block["warmup_sweep"]["method"]
    methods = block["methods"]
    if swept not in methods:
        raise ConfigError(
            f"warmup_sweep.method: {swept!r} is not a method; methods are {', '.join(methods)}{nearest(swept, methods)}"
        )
    phases = methods[swept]["phases"]
    if len(phases) < 2:
        raise ConfigError(f"warmup_sweep.method: {swept} has one phase, so no warm-up; name a method of two phases")
    derived = {}
    for updates in block["warmup_sweep"]["lengths"]:
        if updates == phases[0]["updates"]:
            continue
        name = f"{swept}_s{updates}"
        if name in methods:
            raise ConfigError(f"methods.{name}: warmup_sweep.lengths: {updates} takes the name; rename the method")
        derived[updates] = (name, [{**phases[0], "updates": updates}, *phases[1:]])
    return derived


def _is_parent(candidate: tuple[Phase, ...], phases: tuple[Phase, ...]) -> bool:
    """Whether `candidate` passes through the state in which `phases` starts its last phase."""
    before = phases[:-1]
    return (
        len(candidate) == len(before)
        and candidate[:-1] == before[:-1]
        and candidate[-1].settings == before[-1].settings
        and candidate[-1].last_update >= before[-1].last_update
    )


def _parent(name: str, chains: Mapping[str, tuple[Phase, ...]]) -> str | None:
    phases = chains[name]
    if len(phases) == 1:
        return None
    for candidate, chain in chains.items():
        if _is_parent(chain, phases):
            return candidate
    wanted = [asdict(phase.settings) for phase in phases[:-1]]
    raise ConfigError(
        f"methods.{name}: no method trains its first {len(wanted)} phase(s) for at least {phases[-2].last_update} "
        f"updates; add one whose phases are {wanted} (or give the warm-up the settings of an existing method)"
    )


def _evaluated(name: str, chain: tuple[Phase, ...], evaluation: Mapping) -> tuple[int, ...]:
    """The end of the run, the extra updates of the config, and the reference updates of the claims on this method."""
    reference = evaluation["reference_updates"]
    first, last = chain[-1].first_update, chain[-1].last_update
    updates = {last}
    asked = [(f"evaluation.extra_updates.{name}", update) for update in evaluation["extra_updates"].get(name, [])]
    if name in ("nsr_prerl", "grpo"):
        asked.append(("evaluation.reference_updates.nsr", reference["nsr"]))
    if name == "grpo":
        asked.append(("evaluation.reference_updates.rl", reference["rl"]))
    for key, update in asked:
        if not first <= update <= last:
            raise ConfigError(f"{key}: {name} has no update {update}, it trains {first} to {last}; choose one of these")
        updates.add(update)
    return tuple(sorted(updates))


def resolve_methods(block: Mapping) -> dict[str, Method]:
    """Every method to train, the sweep's included, in config order. `block` is a scale's resolved block with `methods`.

    Raises ConfigError on a sweep, phase or evaluation that cannot be run, on a missing parent and on methods that are
    the same run under two names.
    """
    written = {name: method["phases"] for name, method in block["methods"].items()}
    if BASE in written:
        raise ConfigError(f"methods.{BASE}: the name is reserved for the untrained model; rename the method")
    swept = dict(sweep_methods(block).values())
    chains = {name: _phases(f"methods.{name}", phases, block) for name, phases in written.items()}
    for name, phases in swept.items():
        chains[name] = _phases(f"warmup_sweep.lengths: {phases[0]['updates']}: methods.{name}", phases, block)
    names: dict[tuple[Phase, ...], str] = {}
    for name, chain in chains.items():
        if names.setdefault(chain, name) != name:
            raise ConfigError(f"methods.{name} is the same run as methods.{names[chain]}; remove one of them")
    for name in block["evaluation"]["extra_updates"]:
        if name not in chains:
            known = f"methods are {', '.join(chains)}{nearest(name, chains)}"
            raise ConfigError(f"evaluation.extra_updates.{name}: no such method; {known}")
    parents = {name: _parent(name, chains) for name in chains}
    evaluated = {name: _evaluated(name, chain, block["evaluation"]) for name, chain in chains.items()}
    methods = {}
    for name, chain in chains.items():
        continued = {chains[other][-1].first_update - 1 for other, parent in parents.items() if parent == name}
        methods[name] = Method(
            name=name,
            phases=chain,
            parent=parents[name],
            kept_updates=tuple(sorted(continued.union(evaluated[name]))),
            optimizer_updates=tuple(sorted(continued)),
            evaluated_updates=evaluated[name],
        )
    return _early_runs(methods, written) if block["training"]["early_runs"] else methods


def _early_runs(methods: Mapping[str, Method], written: Iterable[str]) -> dict[str, Method]:
    """`training.early_runs`: the updates that a claim or a written method's warm-up needs of a method are one run,
    which the rest of the method continues with its moments.

    nsr_prerl = nsr_prerl_to20 (DSRL's warm-up, the claims at 20 updates), then 21 … 348. A critic is not handed over.
    """
    ends: dict[str, int] = {}
    for name, method in methods.items():
        early = {update for update in method.evaluated_updates if update < method.last_update}
        early |= {methods[child].parent_update for child in written if methods[child].parent == name}
        if early and max(early) < method.last_update and not method.critic:
            ends[name] = max(early)
    runs: dict[str, Method] = {}
    for name, method in methods.items():
        parent = method.parent
        if parent in ends and method.parent_update <= ends[parent]:
            method = replace(method, parent=_early_name(parent, ends[parent]))
        if name in ends:
            early_run, method = _cut(method, ends[name])
            runs[early_run.name] = early_run
        runs[name] = method
    return runs


def _early_name(method: str, end: int) -> str:
    return f"{method}_to{end}"


def _cut(method: Method, end: int) -> tuple[Method, Method]:
    """The run of `method` up to update `end` and the one that continues it."""
    *before, last = method.phases
    first = replace(last, last_update=end)
    rest = Phase(replace(last.settings, optimizer="keep", start="trained"), end + 1, last.last_update)
    early = replace(
        method,
        name=_early_name(method.name, end),
        phases=(*before, first),
        kept_updates=tuple(sorted({end, *(u for u in method.kept_updates if u <= end)})),
        optimizer_updates=tuple(sorted({end, *(u for u in method.optimizer_updates if u <= end)})),
        evaluated_updates=tuple(u for u in method.evaluated_updates if u <= end),
        part_of=method.name,
    )
    later = replace(
        method,
        phases=(*before, first, rest),
        parent=early.name,
        kept_updates=tuple(u for u in method.kept_updates if u > end),
        optimizer_updates=tuple(u for u in method.optimizer_updates if u > end),
        evaluated_updates=tuple(u for u in method.evaluated_updates if u > end),
    )
    return early, later


def warmup_values(block: Mapping, methods: Mapping[str, Method]) -> dict[int, str]:
    """S -> method of the warm-up figure: the sweep, the swept method's S, and 0 for its last phase alone."""
    swept = block["warmup_sweep"]["method"]
    values = {block["methods"][swept]["phases"][0]["updates"]: swept}
    values |= {updates: name for updates, (name, _) in sweep_methods(block).items()}
    last = methods[swept].phases[-1]
    for name, method in methods.items():
        first_phase = method.phases[0]
        alone = {**asdict(first_phase.settings), "optimizer": last.settings.optimizer} == asdict(last.settings)
        if len(method.stages) == 1 and alone and method.last_update == last.last_update:
            values[0] = name
    return dict(sorted(values.items()))


def scheduled_updates(schedule: list[Mapping], method: Method) -> list[int]:
    """Updates of `method` with a validation: the schedule's, 0 if it starts from the base, and the method's last.

    schedule: [{every: 5, until: 100}, {every: 25, until: end}] = 5, 10, …, 100, 125, 150, …
    """
    updates = set() if method.part_of else {method.last_update}
    updates |= {0} if method.parent is None else set()
    start = 0
    for part in schedule:
        until = method.last_update if part["until"] == "end" else part["until"]
        updates.update(range(start + part["every"], until + 1, part["every"]))
        start = until
    return sorted(u for u in updates if u == 0 or method.first_update <= u <= method.last_update)
