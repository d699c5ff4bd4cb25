//! Rotates the residual stream, so that no channel of it, and no weight that meets it, stands out (QuaRot: Ashkboos et al.,
//! arXiv:2404.00456, section 4, stage 1; that the model computes the same is the invariance of SliceGPT, arXiv:2401.15024).
//! Norm weights move into the matrices that follow; what writes to the stream is multiplied by an orthogonal Q, and what
//! reads it by Q'. Values of each head may be rotated too, against the output's columns.

mod orthogonal;

use aehost_sdk::technique::*;
use orthogonal::orthogonal;

struct Rotation;

impl Technique for Rotation {
    fn describe() -> Description {
        let summary = "Rotates the residual stream, which spreads outliers of weights and activations before rounding.";
        Description::new(identity!("rotation", summary, "arXiv:2404.00456"), Stage::Inference)
            .order(2)
            .provides("rotated")
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let wiring = Wiring::of(model)?;
        Stream::find(&wiring)?;
        let mut parameters = vec![integer("seed", "Which random rotation.", 0..=7).into()];
        if !heads(&wiring).is_empty() {
            let summary = "Rotate the values of each head, and the columns of the output that meet them.";
            parameters.push(flag("values", summary).default(true).into());
        }
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let seed = settings.integer("seed")? as u64;
        let wiring = Wiring::of(&model.model())?;
        let stream = Stream::find(&wiring)?;
        log::progress(0.0, "rotating the residual stream");
        let q = orthogonal(stream.width, seed)?;
        stream.segments.iter().try_for_each(|segment| segment.turn(model, &q, "rotation"))?;
        if settings.get("values").is_some() && settings.flag("values")? {
            for heads in heads(&wiring) {
                heads.rotate(model, &orthogonal(heads.size as usize, seed)?)?;
            }
        }
        model.check()
    }
}

/// Values of attention heads that a rotation of their own can pass through: linear maps make them, and read the attention.
struct Heads {
    values: String,
    bias: Option<String>,
    outputs: Vec<String>,
    /// Elements of a value.
    size: u32,
}

fn heads(wiring: &Wiring) -> Vec<Heads> {
    let attentions = wiring.nodes.iter().filter(|node| node.spec.op == "attention");
    let found = attentions.map(|node| -> Result<Heads, Error> {
        let value = wiring.attended(node)?;
        let of = |name: &str| node.attribute(name).and_then(Value::as_integer);
        let size = of("value-dim").or(of("head-dim")).unwrap_or(1) as u32;
        let Some(maker) = wiring.maker(value).filter(|maker| maker.spec.op == "linear") else {
            return Err(Error::not_applicable(format!("{} comes from no matrix", wiring.named(value))));
        };
        let own = |slot: &str| wiring.own(maker, slot).map(str::to_owned);
        let bias = maker.weight("bias").map(|_| own("bias")).transpose()?;
        Ok(Heads { values: own("weight")?, bias, outputs: wiring.matrices_reading(node.outputs[0])?, size })
    });
    found.filter_map(Result::ok).collect()
}

impl Heads {
    fn rotate(&self, model: &Editor, q: &Tensor) -> Result<(), Error> {
        let back = q.transpose(&[])?;
        change(model, &self.values, |w| {
            let shape = w.shape();
            q.matmul(&w.reshape(&[shape[0] / self.size, self.size, shape[1]])?)?.reshape(&shape)
        })?;
        if let Some(bias) = &self.bias {
            change(model, bias, |b| times(b, &back))?;
        }
        self.outputs.iter().try_for_each(|weight| change(model, weight, |w| times(w, &back)))
    }
}

aehost_sdk::technique!(Rotation);
