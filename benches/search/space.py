"""Search spaces in the JSON form of the contract's interface `strategy`, and the flat variables that the rivals' packages
take. A configuration is a list of techniques that are on, with their settings; the empty one is the baseline.

A space of one technique is a plain problem: that technique is always on, and the baseline stands for its defaults. With
several techniques each has a variable of its own, whether it is on, and its parameters depend on it.
"""

import math
from dataclasses import dataclass

STAGES = ("architecture", "fine-tuning", "inference")


def real(name, low, high, default, log=False, when=None):
    return _parameter(name, {"real": {"min": low, "max": high, "log": log}}, default, when)


def integer(name, low, high, default, step=1, log=False, when=None):
    return _parameter(name, {"integer": {"min": low, "max": high, "step": step, "log": log}}, default, when)


def choice(name, values, default, ordered=False, when=None):
    return _parameter(name, {"choice": {"values": list(values), "ordered": ordered}}, default, when)


def flag(name, default=False, when=None):
    return _parameter(name, "flag", default, when)


def technique(name, parameters, stage="inference", conflicts=(), provides=(), requires=()):
    return {"technique": name, "stage": stage, "parameters": parameters, "conflicts": list(conflicts), "after": [],
            "provides": list(provides), "requires": list(requires)}


def _parameter(name, domain, default, when):
    """`when` maps the parameters that this one depends on to the values with which it exists."""
    conditions = [{"parameter": other, "values": list(values)} for other, values in (when or {}).items()]
    return {"name": name, "summary": "", "domain": domain, "default": default, "active-when": conditions}


@dataclass(frozen=True)
class Variable:
    """One dimension of the flat space. `kind` is real, integer or category. Integers with a step and ordered choices are
    integers that count their values, so that packages see their order."""

    name: str
    kind: str
    low: float
    high: float
    log: bool
    values: tuple | None  # what an index stands for; none where the number is the value itself
    default: object  # as the package sees it: a number, or an index of `values`
    conditions: tuple[tuple[str, tuple], ...]  # other variables' names, and the values (not indices) they must have
    technique: str
    parameter: str | None  # none: whether the technique is on

    def decode(self, raw):
        if self.values is not None:
            return self.values[int(raw)]
        return int(raw) if self.kind == "integer" else float(raw)

    def encode(self, value):
        return self.values.index(value) if self.values is not None else value

    def to_unit(self, raw) -> float:
        """Its place in [0, 1]."""
        if self.high == self.low:
            return 0.0
        scale = math.log if self.log else float
        return (scale(raw) - scale(self.low)) / (scale(self.high) - scale(self.low))

    def from_unit(self, unit):
        scale, back = (math.log, math.exp) if self.log else (float, float)
        raw = back(scale(self.low) + min(max(unit, 0.0), 1.0) * (scale(self.high) - scale(self.low)))
        raw = min(max(raw, self.low), self.high)
        return raw if self.kind == "real" else round(raw)

    def draw(self, random):
        if self.kind == "real":
            return self.from_unit(random.random())
        if self.log:  # each integer has the share of the scale that rounds to it
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return min(max(round(math.exp(random.uniform(low, high))), self.low), self.high)
        return random.randint(int(self.low), int(self.high))


class Space:
    def __init__(self, techniques: list[dict]):
        self.techniques = sorted(techniques, key=lambda t: STAGES.index(t["stage"]))
        self.plain = len(techniques) == 1
        self.variables = [variable for t in self.techniques for variable in self._variables(t)]
        self.by_name = {variable.name: variable for variable in self.variables}

    def _variables(self, one):
        name = one["technique"]
        if not self.plain:
            yield Variable(name, "category", 0, 1, False, (False, True), 0, (), name, None)
        for parameter in one["parameters"]:
            conditions = [(f"{name}.{c['parameter']}", tuple(c["values"])) for c in parameter["active-when"]]
            if not self.plain:
                conditions.insert(0, (name, (True,)))
            yield _variable(name, parameter, tuple(conditions))

    def active(self, raws: dict) -> list[Variable]:
        """The variables that exist where the others have these raw values."""
        found: dict[str, object] = {}
        for variable in self.variables:
            if all(other in found and found[other] in values for other, values in variable.conditions):
                found[variable.name] = variable.decode(raws[variable.name])
        return [self.by_name[name] for name in found]

    def configuration(self, raws: dict) -> list[dict]:
        """What raw values stand for. What excludes one another is repaired: the later technique is left out."""
        choices: dict[str, list] = {self.techniques[0]["technique"]: []} if self.plain else {}
        for variable in self.active(raws):
            value = variable.decode(raws[variable.name])
            if variable.parameter is None:
                if value:
                    choices[variable.technique] = []
            else:
                choices[variable.technique].append({"name": variable.parameter, "value": value})
        return self.repaired([{"technique": name, "settings": settings} for name, settings in choices.items()])

    def raws(self, configuration: list[dict]) -> dict:
        """Raw values of every variable; those that do not exist have their defaults, as all have for the baseline."""
        raws = {variable.name: variable.default for variable in self.variables}
        for chosen in configuration:
            if not self.plain:
                raws[chosen["technique"]] = 1
            for setting in chosen["settings"]:
                name = f"{chosen['technique']}.{setting['name']}"
                raws[name] = self.by_name[name].encode(setting["value"])
        return raws

    def settings(self, configuration: list[dict]) -> dict[str, dict]:
        """Values by technique and parameter; a plain problem's baseline has its defaults."""
        if self.plain and not configuration:
            configuration = self.configuration(self.raws([]))
        return {chosen["technique"]: {s["name"]: s["value"] for s in chosen["settings"]} for chosen in configuration}

    def repaired(self, configuration: list[dict]) -> list[dict]:
        kept: list[dict] = []
        for chosen in configuration:
            if self.objection([*kept, chosen]) is None:
                kept.append(chosen)
        return kept

    def objection(self, configuration: list[dict]) -> str | None:
        """Why these techniques do not go together, by the host's rules: conflicts, tags provided twice, tags missing."""
        by_id = {t["technique"]: t for t in self.techniques}
        order = list(by_id)
        before: list[dict] = []
        for name in sorted((chosen["technique"] for chosen in configuration), key=order.index):
            one = by_id[name]
            provided = [tag for other in before for tag in other["provides"]]
            for other in before:
                if other["technique"] in one["conflicts"] or name in other["conflicts"]:
                    return f"{other['technique']} and {name} exclude one another"
            if missing := [tag for tag in one["requires"] if tag not in provided]:
                return f"{name} needs {missing[0]}"
            if twice := [tag for tag in one["provides"] if tag in provided]:
                return f"{name} provides {twice[0]} again"
            before.append(one)
        return None

    def draw(self, random) -> list[dict]:
        """A random configuration: every variable is drawn by itself, on its own scale."""
        return self.configuration({variable.name: variable.draw(random) for variable in self.variables})


def _variable(technique_name, parameter, conditions) -> Variable:
    domain, default = parameter["domain"], parameter["default"]
    name = f"{technique_name}.{parameter['name']}"

    def counted(kind, values):
        return Variable(name, kind, 0, len(values) - 1, False, tuple(values), values.index(default), conditions,
                        technique_name, parameter["name"])

    if domain == "flag":
        return counted("category", [False, True])
    [(kind, limits)] = domain.items()
    if kind == "choice":
        return counted("integer" if limits["ordered"] else "category", limits["values"])
    if kind == "integer" and limits["step"] != 1:
        return counted("integer", list(range(limits["min"], limits["max"] + 1, limits["step"])))
    return Variable(name, kind, limits["min"], limits["max"], limits["log"], None, default, conditions, technique_name,
                    parameter["name"])
