//! Fewer experts, and fewer for each token (Muzio et al.: SEER-MoE, arXiv 2404.05089; Lu et al., arXiv 2402.14800): the
//! experts that tokens of the calibration text use least are dropped, with their rows of the router.

mod usage;

use aehost_sdk::technique::*;
use usage::{Route, portion};

/// Calibration tokens.
const TOKENS: u32 = 2048;

struct ExpertReduction;

impl Technique for ExpertReduction {
    fn describe() -> Description {
        let summary = "Drops the experts that are used least, and lets each token go through fewer.";
        Description::new(identity!("expert-reduction", summary, "arXiv:2404.05089"), Stage::Architecture).order(20)
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        if model.nodes(&Filter::op("experts")).is_empty() {
            return Err(no_experts());
        }
        let criterion = "What of an expert counts: its mean share of a token, or how often it is chosen.";
        Ok(vec![
            choice("experts", "Share of the experts that stay.", [1.0, 0.75, 0.5]).ordered().default(0.75).into(),
            choice("criterion", criterion, ["share", "frequency"]).when("experts", [0.75, 0.5]).into(),
            choice("top-k", "Share of a token's experts that stay.", [1.0, 0.75, 0.5]).ordered().into(),
        ])
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let (experts, top_k) = (settings.real("experts")?, settings.real("top-k")?);
        let nodes = model.model().nodes(&Filter::op("experts"));
        if nodes.is_empty() {
            return Err(no_experts());
        }
        let frequency = settings.get("criterion").and_then(|v| v.as_text()) == Some("frequency");
        let logits = match experts < 1.0 {
            true => nodes.iter().map(|node| Wanted::rows(node.spec.inputs[1], TOKENS)).collect(),
            false => vec![],
        };
        let logits = match logits.is_empty() {
            true => vec![],
            false => calibration::collect(model, &logits, TOKENS)?.values,
        };
        for (i, node) in nodes.iter().enumerate() {
            let mut route = Route::of(node, stack(&model.model(), node, "gate")?.shape[0] as usize);
            if let Some(logits) = logits.get(i) {
                let kept = route.kept(&route.usage(&logits.to_f32()?, frequency), experts);
                keep(model, node, &kept)?;
                route.experts = kept.len();
            }
            let most = route.experts / route.groups * route.top_groups;
            let chosen = portion(route.top_k, top_k).min(most);
            model.set_attribute(node.id, &setting("top-k", chosen as i64))?;
        }
        model.check()
    }
}

fn no_experts() -> Error {
    Error::not_applicable("the model has no experts: its feed-forward networks are dense")
}

/// A weight that only this node uses.
fn stack(model: &Model, node: &Node, slot: &str) -> Result<Weight, Error> {
    let name = &node.spec.name;
    let weight = node.weight(slot).ok_or_else(|| Error::new("internal", format!("node `{name}` has no `{slot}`")))?;
    if model.users(weight).len() > 1 {
        let message = format!("weight `{weight}` of node `{name}` has other users: its experts cannot be dropped");
        return Err(Error::not_applicable(message));
    }
    weights::describe(model, weight)
}

/// Keeps these experts of a node, and their rows of its router.
fn keep(model: &Editor, node: &Node, kept: &[usize]) -> Result<(), Error> {
    let now = model.model();
    let router = now.producer(node.spec.inputs[1]).map(|id| now.node(id)).transpose()?;
    let router = router.filter(|r| r.spec.op == "linear" && now.consumers(r.outputs[0]).len() == 1);
    let router = router.ok_or_else(|| {
        let message = format!("the router of node `{}` is not a linear map of its own", node.spec.name);
        Error::not_applicable(message)
    })?;
    let bias = router.weight("bias").map(|_| (&router, "bias"));
    let weights = [(node, "gate"), (node, "up"), (node, "down"), (&router, "weight")].into_iter().chain(bias);
    for (node, slot) in weights {
        let Weight { name, mut shape, representation, .. } = stack(&now, node, slot)?;
        let rows = weights::get(&now, &name, None::<Span>)?.reshape(&[shape[0], shape[1..].iter().product()])?;
        shape[0] = kept.len() as u32;
        weights::put(model, &name, &rows.take(0, kept)?.reshape(&shape)?, representation.dtype())?;
    }
    model.infer(&[&router])
}

aehost_sdk::technique!(ExpertReduction);
