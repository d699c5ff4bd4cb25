"""The JSON of `aehost plugins drive`, which is that of the host's store, to and from the contract's form: settings are tables,
variants carry their `kind`, and constraints are text."""


def start(problem: dict) -> dict:
    return problem | {
        "space": [_technique(one) for one in problem["space"]],
        "constraints": [f"{c['metric']} {'<=' if c['at-most'] else '>='} {c['bound']}" for c in problem["constraints"]],
        "facts": _table(problem["facts"]),
        "settings": _table(problem["settings"]),
    }


def observation(told: dict) -> dict:
    [(kind, content)] = told["outcome"].items()
    if kind == "measured":
        metrics = [{"metric": m["metric"], "value": m["value"], "standard_error": m["standard-error"]} for m in content]
        outcome = {"metrics": metrics}
    else:
        outcome = content if kind == "infeasible" else {"message": content}
    configuration = [one | {"settings": _table(one["settings"])} for one in told["configuration"]]
    return told | {"configuration": configuration, "outcome": {"kind": kind, **outcome}}


def configuration(given: list[dict]) -> list[dict]:
    return [one | {"settings": [{"name": name, "value": value} for name, value in one["settings"].items()]} for one in given]


def _table(settings: list[dict]) -> dict:
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
