//! Turns dense gated feed-forward networks into experts without training (Pei et al.: CMoE, arXiv 2502.04416; Zhang et al.:
//! MoEfication, arXiv 2110.01786). Neurons that are active most often stay a dense network that all tokens share; those that
//! are active on the same tokens form an expert. A router chooses, for each token, the experts whose outputs it predicts to
//! be largest: the least-squares map from the network's input to the norms of the experts' outputs on calibration text.

mod clusters;

use aehost_sdk::technique::*;
use clusters::Split;

/// Calibration tokens.
const TOKENS: u32 = 1024;
/// One neuron of this many counts as active on a token.
const ACTIVE: usize = 16;
/// Ridge of the router's regression, of the mean square of its inputs.
const DAMPING: f64 = 0.1;
/// Bytes of statistics that one pass over the calibration text may keep.
const PASS_BYTES: usize = 128 << 20;

struct MixtureOfExperts;

/// The parts into which each network is cut.
struct Cut {
    experts: usize,
    shared: usize,
    top_k: usize,
}

impl Technique for MixtureOfExperts {
    fn describe() -> Description {
        let summary = "Turns dense feed-forward networks into experts of which a router chooses some for each token.";
        // Networks are pruned before they are cut.
        Description::new(identity!("mixture-of-experts", summary, "arXiv:2502.04416"), Stage::Architecture).order(10)
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let widths = dense_networks(model)?.iter().map(|n| width(model, n)).collect::<Result<Vec<usize>, Error>>()?;
        let counts: Vec<i64> = [8, 4, 16].into_iter().filter(|n| widths.iter().all(|w| w % *n as usize == 0)).collect();
        if counts.is_empty() {
            let message =
                format!("feed-forward networks of {widths:?} neurons cannot be cut into 4, 8 or 16 equal parts");
            return Err(Error::not_applicable(message));
        }
        Ok(vec![
            choice("experts", "Equal parts into which each network is cut.", counts).into(),
            choice("shared", "Share of the parts that every token goes through.", [0.0, 0.25, 0.5])
                .ordered()
                .default(0.25)
                .into(),
            choice("top-k", "Share of the parts that the router chooses for a token.", [0.25, 0.5, 0.75])
                .ordered()
                .default(0.5)
                .into(),
        ])
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let cut = Cut::new(settings.integer("experts")?, settings.real("shared")?, settings.real("top-k")?)?;
        let networks = dense_networks(&model.model())?;
        let mut widest = 0;
        for network in &networks {
            let width = width(&model.model(), network)?;
            if width % cut.experts != 0 {
                let (place, experts) = (network.place(), cut.experts);
                let message = format!("the {width} neurons of {place} cannot be cut into {experts} equal parts");
                return Err(Error::not_applicable(message));
            }
            widest = widest.max(width);
        }
        let pass = (PASS_BYTES / (TOKENS as usize * widest * 8)).max(1);
        for (done, networks_of_pass) in networks.chunks(pass).enumerate() {
            log::progress((done * pass) as f64 / networks.len() as f64, "cutting feed-forward networks into experts");
            let values = networks_of_pass.iter().flat_map(|network| [network.input(), network.neurons()]);
            let wanted: Vec<Wanted> = values.map(|at| Wanted::rows(at, TOKENS)).collect();
            let statistics = calibration::collect(model, &wanted, TOKENS)?;
            for (network, rows) in networks_of_pass.iter().zip(statistics.values.chunks_exact(2)) {
                replace(model, network, &cut, &rows[0], &rows[1]).map_err(|e| e.within(network.place()))?;
            }
        }
        model.check()
    }
}

impl Cut {
    fn new(experts: i64, shared: f64, top_k: f64) -> Result<Self, Error> {
        let of = |share: f64| (share * experts as f64).round() as usize;
        let cut = Self { experts: experts as usize, shared: of(shared), top_k: of(top_k) };
        if cut.shared + cut.top_k > cut.experts || cut.top_k == 0 {
            let message = format!("of {experts} parts, {} cannot be shared and {} chosen", cut.shared, cut.top_k);
            return Err(Error::not_applicable(message));
        }
        Ok(cut)
    }

    fn routed(&self) -> usize {
        self.experts - self.shared
    }
}

/// A gated network without biases.
struct Dense {
    down: Node,
    gated: Gated,
}

impl Dense {
    /// What gate and up read.
    fn input(&self) -> ValueId {
        self.gated.gate.spec.inputs[0]
    }

    /// What its neurons give, which down reads.
    fn neurons(&self) -> ValueId {
        self.down.spec.inputs[0]
    }

    /// Its layer, for messages.
    fn place(&self) -> String {
        self.down.spec.layer.map_or(self.down.spec.name.clone(), |layer| format!("layer {layer}"))
    }
}

/// The dense networks that experts can stand for.
fn dense_networks(model: &Model) -> Result<Vec<Dense>, Error> {
    let fits = |network: Network| {
        let gated = network.gated?;
        let biased = [&gated.gate, &gated.up, &network.down].iter().any(|node| node.weight("bias").is_some());
        let exact = gated.activation.attribute("approximate").is_some_and(|a| a.as_text() == Some("none"));
        let beside_experts =
            !model.nodes(&Filter { layer: network.down.spec.layer, ..Filter::op("experts") }).is_empty();
        (!biased && !exact && !beside_experts).then_some(Dense { down: network.down, gated })
    };
    let dense: Vec<Dense> = networks(model)?.into_iter().filter_map(fits).collect();
    if dense.is_empty() {
        let message = "the model has no dense feed-forward network with a gate and without biases";
        return Err(Error::not_applicable(message));
    }
    Ok(dense)
}

fn width(model: &Model, network: &Dense) -> Result<usize, Error> {
    Ok(weights::describe(model, network.gated.gate.matrix()?)?.shape[0] as usize)
}

/// The norm of each expert's output, `[tokens, experts]`, by what neurons give, `[tokens, width]`.
fn norms(h: &Tensor, experts: &[Vec<usize>], outputs: &[Tensor]) -> Result<Tensor, Error> {
    let norm = |(members, output): (&Vec<usize>, &Tensor)| {
        h.take(1, members)?.matmul(&output.transpose(&[])?)?.reduce("norm", &[1], true)
    };
    let norms = experts.iter().zip(outputs).map(norm).collect::<Result<Vec<Tensor>, Error>>()?;
    Tensor::concat(1, &norms.iter().collect::<Vec<_>>())
}

/// Puts a shared network and experts in a network's place; `x` and `h` are its input and what its neurons give,
/// `[tokens, n]`.
fn replace(model: &Editor, network: &Dense, cut: &Cut, x: &Tensor, h: &Tensor) -> Result<(), Error> {
    let (input, Gated { gate, up, activation }) = (network.input(), &network.gated);
    let site = Site::new(model, &network.down, gate)?;
    let (gate, up, down) = (matrix_of(model, gate)?, matrix_of(model, up)?, matrix_of(model, &network.down)?);
    let lengths = down.reduce("norm", &[0], false)?.to_f32()?;
    let (width, hidden) = (lengths.len(), down.shape()[0]);
    let size = width / cut.experts;
    let active = clusters::active(&h.to_f32()?, &lengths, (width / ACTIVE).max(1));
    let Split { shared, experts } = clusters::split(&active, width, cut.shared * size, cut.routed());
    let outputs = experts.iter().map(|members| down.take(1, members)).collect::<Result<Vec<Tensor>, Error>>()?;

    let router = Linear::fitted(input, x, &norms(h, &experts, &outputs)?, DAMPING)?;
    let logits = site.node("linear", "router", "router").computes(&router, "float32")?.finish()?;
    let (routed, count, size) = (experts.concat(), experts.len() as u32, size as u32);
    let stack = |matrix: &Tensor| matrix.take(0, &routed)?.reshape(&[count, size, hidden]);
    let outputs = Tensor::concat(0, &outputs.iter().collect::<Vec<_>>())?.reshape(&[count, hidden, size])?;
    let stacks = [("gate", &stack(&gate)?), ("up", &stack(&up)?), ("down", &outputs)];
    let mut y = site
        .weighted("experts", "experts", "expert", &stacks)?
        .inputs([input, logits])
        .attribute("top-k", cut.top_k as i64)
        .attribute("score", "one")
        .attribute("normalise", "none")
        .attribute("activation", activation.spec.op.as_str())
        .finish()?;
    if !shared.is_empty() {
        let linear = |name: &str, role: &str, from, matrix| site.linear(name, role, &Linear::new(from, matrix));
        let bent = linear("shared.gate", "gate", input, gate.take(0, &shared)?)?;
        let bent = site.node(&activation.spec.op, "shared.activation", "activation").inputs([bent]);
        let bent = bent.attributes(&activation.spec.attributes).finish()?;
        let factor = linear("shared.up", "up", input, up.take(0, &shared)?)?;
        let neurons = site.node("mul", "shared.product", "other").inputs([bent, factor]).finish()?;
        let shared = linear("shared.down", "down", neurons, down.take(1, &shared)?)?;
        y = site.node("add", "sum", "other").inputs([y, shared]).finish()?;
    }
    model.replace_uses(network.down.outputs[0], y, &[])
}

aehost_sdk::technique!(MixtureOfExperts);
