//! Cuts directions off the residual stream (Ashkboos et al.: SliceGPT, arXiv:2401.15024). The stream is turned to its
//! principal directions on calibration text, and those of least energy go, with the rows and columns of all matrices that
//! write and read them. Each norm reads a basis of its own; matrices on the residual path lead from one into the next.

mod cut;

use aehost_sdk::technique::*;
use cut::{range, step};

/// Calibration tokens behind each covariance, unless the stream is wide.
const TOKENS: u32 = 4096;

struct Slicing;

impl Technique for Slicing {
    fn describe() -> Description {
        let summary =
            "Cuts the directions of least energy off the residual stream, and so rows and columns off all matrices.";
        // Sees the layers that depth pruning leaves, and comes before what gives single matrices another form.
        Description::new(identity!("slicing", summary, "arXiv:2401.15024"), Stage::Architecture).order(1)
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let wiring = Wiring::of(model)?;
        let stream = Stream::find(&wiring)?;
        places(&wiring, &stream)?;
        let (width, step) = (stream.width as u32, i64::from(step(stream.width as u32)));
        let range = range(width).ok_or_else(|| {
            let message = format!("a residual stream of {width} columns has no multiple of {step} to be cut to");
            Error::not_applicable(message)
        })?;
        let default = range.start().max(&(range.end() - step)).to_owned();
        let summary = format!("Directions of the residual stream that stay, of {width}.");
        let directions = integer("directions", &summary, range).step(step).default(default);
        let bases = "A basis for each norm, with matrices on the residual path, or one for all, without.";
        let mut parameters = vec![directions.into(), choice("bases", bases, ["each", "one"]).into()];
        if !tied(&wiring).is_empty() {
            let summary = "Cut embedding and head apart where they are one weight: less to compute, but more bytes.";
            parameters.push(flag("untie", summary).default(false).into());
        }
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        if settings.get("untie").is_some() && settings.flag("untie")? {
            for node in tied(&Wiring::of(&model.model())?) {
                model.own_weight(&node, "weight")?;
            }
        }
        let wiring = Wiring::of(&model.model())?;
        let stream = Stream::find(&wiring)?;
        let kept = settings.integer("directions")? as u32;
        let bases = bases(model, &stream, &places(&wiring, &stream)?, kept, settings.text("bases")? == "each")?;
        log::progress(0.9, "cutting the residual stream");
        if let [basis] = bases.as_slice() {
            stream.segments.iter().try_for_each(|segment| segment.turn(model, basis, "basis"))?;
        } else {
            for edge in &stream.edges {
                let over = bases[edge.to].matmul(&bases[edge.from].transpose(&[])?)?;
                insert_between(model, edge.value, edge.add, &format!("basis-{}", edge.from), "residual", &over)?;
            }
            // Each is let go of as soon as its segment is turned: all of them take as much as a quarter of the matrices.
            for (segment, basis) in stream.segments.iter().zip(bases) {
                segment.turn(model, &basis, "basis")?;
            }
        }
        model.check()?;
        aehost_sdk::info!("{kept} of {} directions are kept", stream.width);
        model.state("hidden", i64::from(kept))
    }
}

/// Embeddings that are heads too.
fn tied(wiring: &Wiring) -> Vec<Node> {
    let embeddings = wiring.nodes.iter().filter(|node| node.spec.op == "embedding");
    embeddings.filter(|node| wiring.own(node, "weight").is_err()).cloned().collect()
}

/// The value of each segment whose covariance counts, and the node that makes it.
fn places(wiring: &Wiring, stream: &Stream) -> Result<Vec<(ValueId, NodeId)>, Error> {
    let place = |segment: &Segment| {
        let mut read = segment.read.iter();
        match (read.next(), read.next()) {
            (Some(value), None) => wiring.maker(*value).map(|node| (*value, node.id)),
            _ => None,
        }
    };
    let none = || Error::not_applicable("parts of the residual stream are read before they are added up");
    stream.segments.iter().map(|segment| place(segment).ok_or_else(none)).collect()
}

/// The directions `[kept, width]` of each segment, found one after another with what is before it cut already; or a single
/// one for all.
fn bases(
    model: &Editor,
    stream: &Stream,
    places: &[(ValueId, NodeId)],
    kept: u32,
    each: bool,
) -> Result<Vec<Tensor>, Error> {
    let width = stream.width as u32;
    // Where cut directions are 0 but there, all shapes stay, and norms see what they will see.
    let tried = model.fork();
    let mut sum: Option<Tensor> = None;
    let mut bases = Vec::new();
    for (done, (value, node)) in places.iter().enumerate() {
        log::progress(0.9 * done as f64 / places.len() as f64, "finding principal directions");
        let statistics = calibration::collect(&tried, &[Wanted::of("gram", *value)], TOKENS.max(2 * width))?;
        if statistics.tokens < u64::from(width) {
            let (tokens, remedy) = (statistics.tokens, "give a longer one under [calibration] data");
            let message = format!("{tokens} tokens of calibration text do not span {width} directions: {remedy}");
            return Err(Error::not_applicable(message));
        }
        let gram = &statistics.values[0];
        let energy = gram.diagonal()?.reduce("sum", &[], false)?.scalar()?;
        if !energy.is_finite() || energy <= 0.0 {
            let name = tried.model().node(*node)?.spec.name;
            return Err(Error::new("diverged", format!("the residual stream after `{name}` has energy {energy}")));
        }
        if each {
            let q = directions(gram, kept)?;
            insert_after(&tried, *node, "cut", &q.transpose(&[])?.matmul(&q)?)?;
            bases.push(q);
        } else {
            let gram = gram.affine(1.0 / energy, 0.0)?;
            sum = Some(sum.map_or_else(|| gram.affine(1.0, 0.0), |sum| sum.binary("add", &gram))?);
        }
    }
    if let Some(sum) = sum {
        bases.push(directions(&sum, kept)?);
    }
    Ok(bases)
}

/// The principal directions of a covariance, in rows.
fn directions(gram: &Tensor, kept: u32) -> Result<Tensor, Error> {
    gram.principal()?.1.slice(1, 0, kept)?.transpose(&[])
}

aehost_sdk::technique!(Slicing);
