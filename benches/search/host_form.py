"""Problems, configurations and results as aehost writes them: settings are tables, variants carry their `kind`, and constraints are
text."""

from .problem import Outcome, Problem


def problem(of: Problem, budget: int, seed: int, settings) -> dict:
    return {
        "space": [_technique(one) for one in of.space.techniques],
        "objectives": [{"metric": o.metric, "direction": "maximize" if o.maximize else "minimize"} for o in of.objectives],
        "constraints": [f"{c.metric} {'<=' if c.at_most else '>='} {c.bound}" for c in of.constraints],
        "facts": {},
        "settings": _table(settings),
        "budget": budget,
        "seed": seed,
    }


def outcome(of: Outcome) -> dict:
    if of.values:
        metrics = [{"metric": metric, "value": value, "standard_error": of.errors[metric]}
                   for metric, value in of.values.items()]
        return {"kind": "measured", "metrics": metrics}
    if of.infeasible:
        return {"kind": "infeasible", "reason": of.reason, "amount": None}
    return {"kind": "failed", "message": of.reason}


def tabled(configuration: list[dict]) -> list[dict]:
    return [one | {"settings": _table(one["settings"])} for one in configuration]


def listed(configuration: list[dict]) -> list[dict]:
    return [one | {"settings": [{"name": name, "value": value} for name, value in one["settings"].items()]}
            for one in configuration]


def _table(settings) -> dict:
    return {setting["name"]: setting["value"] for setting in settings}


def _technique(one: dict) -> dict:
    description = {key: one[key] for key in ("stage", "after", "conflicts", "provides", "requires")}
    identity = {"id": one["technique"], "version": "1.0.0", "summary": "", "reference": ""}
    return {"description": {"identity": identity, "order": 0, "more": {}, **description},
            "parameters": [_parameter(parameter) for parameter in one["parameters"]]}


def _parameter(parameter: dict) -> dict:
    domain = parameter["domain"]
    [(kind, limits)] = [("flag", {})] if domain == "flag" else domain.items()
    return {"name": parameter["name"], "summary": parameter["summary"], "domain": {"kind": kind, **limits},
            "default": parameter["default"], "active_when": parameter["active-when"]}


def space(techniques: list[dict]) -> list[dict]:
    """The space of a study in the contract's form."""
    return [_own_technique(one["description"], one["parameters"]) for one in techniques]


def _own_technique(description: dict, parameters: list[dict]) -> dict:
    kept = {key: description[key] for key in ("stage", "conflicts", "after", "provides", "requires")}
    return {"technique": description["identity"]["id"], "parameters": [_own_parameter(one) for one in parameters], **kept}


def _own_parameter(parameter: dict) -> dict:
    limits = dict(parameter["domain"])
    kind = limits.pop("kind")
    return {"name": parameter["name"], "summary": parameter["summary"], "domain": {kind: limits} if limits else kind,
            "default": parameter["default"], "active-when": parameter["active_when"]}
