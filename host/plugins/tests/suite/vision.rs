//! Vision-language families through their components, on small models with random weights, against what transformers makes of
//! the same pictures and prompts (`tests/fixtures/vision`): pixels, token ids, logits and scores, by both executors.

use crate::support::{built_exactly, built_ins, options, root};
use aehost_common::{Setting, Settings};
use aehost_engine::{
    Device, GenerationRequest, Image, ImageLayout, ImageStep, LanguageModel, Message, Model, Prompt, Rows,
    ScoreRequest, Sequence, Tensor,
};
use aehost_formats::{Checkpoint, Dataset};
use aehost_plugins::Catalog;
use serde::Deserialize;
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How far a logit may be off, as a share of the largest, and a pixel.
const TOLERANCE: f32 = 1e-4;
const PIXELS: f32 = 1e-5;

fn folder() -> PathBuf {
    root().join("tests/fixtures/vision")
}

#[derive(Deserialize)]
struct Case {
    name: String,
    prompt: String,
    pictures: Vec<String>,
}

impl Case {
    fn all() -> Vec<Self> {
        serde_json::from_slice(&std::fs::read(folder().join("cases.json")).unwrap()).unwrap()
    }

    fn prompt(&self) -> Prompt {
        let images = self.pictures.iter().map(|name| Arc::new(picture(name))).collect();
        Prompt { images, ..Prompt::text(&self.prompt) }
    }
}

fn picture(name: &str) -> Image {
    Image::open(&folder().join(format!("pictures/{name}.png"))).unwrap()
}

/// The models there are, each with what transformers says.
fn models() -> Vec<(PathBuf, HashMap<String, Tensor>)> {
    let folders = ["idefics3", "idefics3-whole"].map(|name| folder().join(name));
    let reference = |folder: &Path| candle_core::safetensors::load(folder.join("reference.safetensors"), &Device::Cpu);
    folders.into_iter().map(|folder| (folder.clone(), reference(&folder).unwrap())).collect()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn language(catalog: &Catalog, path: &Path, on_tensors: bool) -> LanguageModel {
    let variant = built_exactly(catalog, path);
    let checkpoint = Checkpoint::open(path).unwrap();
    let family = catalog.family_for(checkpoint.architecture().unwrap()).unwrap().clone();
    let make = if on_tensors { Model::on_tensors } else { Model::new };
    let model = LanguageModel::of(make(&variant, &Device::Cpu, 2).unwrap(), checkpoint.tokenizer().unwrap().into());
    let of = variant.clone();
    model.with_images(&variant, Arc::new(move |width, height| family.layout(&of, width, height))).unwrap()
}

/// Logits of tokens in steps so long.
fn stepped(model: &Model, tokens: &[u32], steps: &[usize]) -> Vec<f32> {
    let mut cache = model.cache();
    let (mut at, mut logits) = (0, Vec::new());
    for step in steps {
        let sequence = Sequence { tokens: &tokens[at..at + step], branches: None, cache: &mut cache, rows: Rows::All };
        logits.extend(floats(&model.forward(&mut [sequence]).unwrap()));
        at += step;
    }
    logits
}

fn gap(expected: &[f32], found: &[f32]) -> f32 {
    assert_eq!(expected.len(), found.len());
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

#[test]
fn logits_of_prompts_with_pictures_equal_those_of_transformers() {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    for (path, reference) in models() {
        for on_tensors in [false, true] {
            let language = language(&catalog, &path, on_tensors);
            let model = language.model();
            for case in Case::all() {
                let prompt = case.prompt();
                let encoded = language.encode_prompt(&prompt).unwrap();
                let tokens = encoded.tokens();
                let expected: Vec<i64> = reference[&format!("{}.ids", case.name)].to_vec1().unwrap();
                let image = language.tokenizer().id("<image>").unwrap();
                let vocabulary = model.vocabulary() as u32;
                let shown: Vec<i64> =
                    tokens.iter().map(|t| i64::from(if *t < vocabulary { *t } else { image })).collect();
                assert_eq!(shown, expected, "{}: {}", path.display(), case.name);
                let logits = floats(&reference[&format!("{}.logits", case.name)]);
                let n = tokens.len();
                let gaps = [vec![n], vec![3, 1, n - 4], vec![1; n]].map(|s| gap(&logits, &stepped(model, tokens, &s)));
                println!("{} {} {gaps:?}", path.file_name().unwrap().display(), case.name);
                assert!(gaps.iter().all(|gap| *gap < TOLERANCE), "{}: {} {gaps:?}", path.display(), case.name);
            }
        }
    }
}

#[test]
fn views_have_the_pixels_of_transformers_image_processor() {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    for (path, reference) in models() {
        let language = language(&catalog, &path, false);
        for case in Case::all() {
            for (at, name) in case.pictures.iter().enumerate() {
                let expected = &reference[&format!("{}.pixels.{at}", case.name)];
                let (_, views) = language.views(&picture(name)).unwrap();
                let (count, _, height, width) = expected.dims4().unwrap();
                assert_eq!(views.len(), count, "{name}");
                for (view, expected) in views.iter().zip(expected.chunk(count, 0).unwrap()) {
                    let expected = floats(&expected);
                    const PATCH: usize = 4;
                    let columns = width / PATCH;
                    for (patch, place) in view.pixels.chunks_exact(3 * PATCH * PATCH).zip(&view.places) {
                        let (top, left) = (*place as usize / columns * PATCH, *place as usize % columns * PATCH);
                        for (i, found) in patch.iter().enumerate() {
                            let (channel, y, x) = (i / PATCH / PATCH, i / PATCH % PATCH, i % PATCH);
                            let wanted = expected[(channel * height + top + y) * width + left + x];
                            assert!((found - wanted).abs() < PIXELS, "{name}: {found} is not {wanted}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn continuations_of_prompts_with_pictures_score_as_by_transformers_together() {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    for (path, reference) in models() {
        let language = language(&catalog, &path, false);
        let cases = Case::all();
        // The same prompts twice: what is shared must not be mixed up.
        let request = |case: &Case| ScoreRequest { prompt: case.prompt(), continuation: " dog".into() };
        let requests: Vec<_> = cases.iter().chain(&cases).map(request).collect();
        let scores = language.score(&requests).unwrap();
        for (case, score) in cases.iter().chain(&cases).zip(scores) {
            let expected = f64::from(floats(&reference[&format!("{}.score", case.name)])[0]);
            let off = (score.log_likelihood - expected).abs();
            assert!(off < 1e-3, "{}: {} is not {expected}", case.name, score.log_likelihood);
        }
    }
}

#[test]
fn prompts_and_pictures_that_do_not_fit_are_told() {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    let language = language(&catalog, &folder().join("idefics3"), false);
    let refused = |text: &str, pictures: &[&str]| {
        let images = pictures.iter().map(|name| Arc::new(picture(name))).collect();
        let prompt = Prompt { images, ..Prompt::text(text) };
        language.encode_prompt(&prompt).err().expect("it is refused").to_string()
    };
    let expected = "the prompt marks 2 places for images by <image>, and has 1 images";
    assert_eq!(refused("<image> and <image>", &["small"]), expected);
    assert!(refused("none", &["small"]).contains("marks 0 places"), "{}", refused("none", &["small"]));
    let text_only = LanguageModel::of(
        Model::new(&built_exactly(&catalog, &root().join("tests/fixtures/families/qwen2")), &Device::Cpu, 1).unwrap(),
        Checkpoint::open(&folder().join("idefics3")).unwrap().tokenizer().unwrap().into(),
    );
    let prompt = Prompt { images: vec![Arc::new(picture("small"))], ..Prompt::text("<image>") };
    let error = text_only.encode_prompt(&prompt).err().expect("it is refused");
    assert_eq!(error.to_string(), "this model takes no images");
}

#[test]
fn chat_templates_are_told_where_pictures_stand() {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    let language = language(&catalog, &folder().join("idefics3-whole"), false);
    let messages = vec![Message::new("user", "<image>What?")];
    let prompt = Prompt { messages, chat: true, images: vec![Arc::new(picture("wide"))] };
    let encoded = language.encode_prompt(&prompt).unwrap();
    let vocabulary = language.model().vocabulary() as u32;
    let known: Vec<u32> = encoded.tokens().iter().copied().filter(|token| *token < vocabulary).collect();
    let expected = std::fs::read_to_string(folder().join("idefics3-whole/chat.txt")).unwrap();
    let spoken = language.tokenizer().decode(&known).unwrap();
    assert_eq!(spoken, expected.replace("<image>", ""), "special tokens have no text");
    assert_eq!(encoded.tokens().len() - known.len(), 4, "a view of 4 x 4 patches, 2 x 2 of which are a row");
}

/// Runs an evaluator on rows beside the pictures.
fn evaluated(evaluator: &str, rows: &[serde_json::Value]) -> Result<HashMap<String, Vec<f64>>, String> {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    let model = Arc::new(language(&catalog, &folder().join("idefics3"), false));
    let data = tempfile::tempdir().unwrap();
    for name in ["small", "wide", "tall"] {
        std::fs::copy(folder().join(format!("pictures/{name}.png")), data.path().join(format!("{name}.png"))).unwrap();
    }
    std::fs::write(data.path().join("text.png"), "no picture").unwrap();
    let link = data.path().join("link.png");
    std::os::unix::fs::symlink(folder().join("pictures/small.png"), link).unwrap();
    let lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
    std::fs::write(data.path().join("data.jsonl"), lines.join("\n")).unwrap();
    let data = Arc::new(Dataset::open(&data.path().join("data.jsonl")).unwrap());
    let evaluator = catalog.evaluator(evaluator).unwrap();
    let settings = evaluator.description().parameters.iter().fold(Settings::default(), |mut settings, p| {
        settings.set(&p.name, p.default.clone());
        settings
    });
    let subset: Vec<u32> = (0..rows.len() as u32).collect();
    let baseline: aehost_plugins::Baseline = Arc::new(|| unreachable!("nothing is compared with it"));
    let measured = evaluator.evaluate(&model, &baseline, &data, &subset, &settings).map_err(|fault| fault.full())?;
    Ok(measured.into_iter().map(|m| (m.metric, m.samples)).collect())
}

#[test]
fn evaluators_ask_about_pictures_beside_the_data() {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    let model = language(&catalog, &folder().join("idefics3"), false);
    let continuations = [" dog", " of cats"];
    let names = ["small", "wide", "tall"];
    let ask = |name: &str, continuation: &str| {
        let images = vec![Arc::new(picture(name))];
        ScoreRequest { prompt: Prompt { images, ..Prompt::text("<image>What?") }, continuation: continuation.into() }
    };
    let requests: Vec<_> = names.iter().flat_map(|name| continuations.map(|c| ask(name, c))).collect();
    let scores: Vec<f64> = model.score(&requests).unwrap().iter().map(|score| score.log_likelihood).collect();

    let row = |name: &str| json!({"context": "What?", "image": format!("{name}.png"), "continuation": " dog"});
    let captions = evaluated("likelihood", &names.map(row)).unwrap();
    for (nats, scores) in captions["token_perplexity"].iter().zip(scores.chunks(2)) {
        assert!((nats * 4.0 + scores[0]).abs() < 1e-4, "{nats} a token of 4 is not {}", -scores[0]);
    }
    let row = |name: &str| json!({"context": "What?", "images": [format!("{name}.png")], "choices": ["dog", "of cats"], "answer": 0});
    let chosen = evaluated("multiple-choice", &names.map(row)).unwrap();
    let first: Vec<f64> = scores.chunks(2).map(|of| f64::from(u8::from(of[0] >= of[1]))).collect();
    assert_eq!(chosen["acc"], first);

    let settings = Settings::default().with("max-tokens", 24i64).with("stop", "\n");
    let generation = |name: &str| GenerationRequest { prompt: ask(name, "").prompt, settings: settings.clone() };
    let answers: Vec<_> = names.map(generation).into_iter().collect();
    let answers = model.generate(&answers).unwrap();
    // Whatever random weights say is expected of the first, and something else of the others.
    let expected = |at: usize| if at == 0 { format!("{}!", answers[0].text) } else { "something else".to_owned() };
    let row = |at: usize| json!({"context": "What?", "image": format!("{}.png", names[at]), "answers": [expected(at)]});
    let matched = evaluated("exact-match", &[0, 1, 2].map(row)).unwrap();
    assert_eq!(matched["exact_match"], [1.0, 0.0, 0.0]);
}

#[test]
fn pictures_that_cannot_be_read_are_named() {
    let of = |image: &str| {
        let row = json!({"context": "What?", "image": image, "choices": ["a", "b"], "answer": 0});
        evaluated("multiple-choice", &[row]).unwrap_err()
    };
    let outside = "its path must lead to a file in the data set's folder";
    for image in ["../small.png", "/etc/passwd", "./small.png", "link.png"] {
        let error = of(image);
        assert!(error.contains(outside) && error.contains(&format!("picture `{image}` of data set `data`")), "{error}");
    }
    assert!(of("").contains("is a directory"), "{}", of(""));
    assert!(of("none.png").contains("No such file"), "{}", of("none.png"));
    let text = of("text.png");
    assert!(text.contains("picture `text.png`") && text.contains("PNG"), "{text}");
}

#[test]
fn layouts_that_cannot_be_carried_out_are_refused() {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    let path = folder().join("idefics3");
    let variant = built_exactly(&catalog, &path);
    let refused = |views: Vec<Vec<ImageStep>>, text: &str| {
        let tokenizer = Checkpoint::open(&path).unwrap().tokenizer().unwrap().into();
        let layout = ImageLayout { views, text: text.into() };
        let layouts: aehost_engine::Layouts = Arc::new(move |_, _| Ok(layout.clone()));
        let model = LanguageModel::of(Model::new(&variant, &Device::Cpu, 1).unwrap(), tokenizer);
        let model = model.with_images(&variant, layouts).unwrap();
        let prompt = Prompt { images: vec![Arc::new(picture("small"))], ..Prompt::text("<image>") };
        model.encode_prompt(&prompt).err().expect("it is refused").to_string()
    };
    let resize = |side| ImageStep::Resize { width: side, height: side };
    let four = "<image>".repeat(4);
    for step in [resize(0), resize(1 << 14), ImageStep::Crop { x: 4, y: 0, width: 8, height: 8 }] {
        let error = refused(vec![vec![step]], &four);
        assert!(error.contains("of an image of 9 x 9 pixels, which cannot be done"), "{error}");
    }
    let many = refused(vec![vec![resize(16)]; 257], &four);
    assert_eq!(many, "the model's family makes 257 views of an image; at most 256 are made");
    let odd = refused(vec![vec![resize(18)]], &four);
    assert!(odd.contains("18 x 18 pixels are not whole blocks of 2 x 2 patches of 4 x 4 pixels"), "{odd}");
    // Places beyond the model's grid.
    let large = refused(vec![vec![resize(24)]], &"<image>".repeat(9));
    assert!(large.contains("a patch stands at place 35, and the model knows 16 places"), "{large}");
    for (tokens, what) in [(3, "more"), (5, "fewer")] {
        let error = refused(vec![vec![resize(16)]], &"<image>".repeat(tokens));
        assert!(error.contains(&format!("became {what} rows")), "{error}");
    }
}

#[test]
fn a_tower_that_does_not_fit_its_projector_is_told() {
    let catalog = Catalog::load(&[built_ins()], &options()).unwrap();
    let mut variant = built_exactly(&catalog, &folder().join("idefics3"));
    variant.graph_mut().set_fact(Setting::new("image.fold", 2i64));
    let error = Model::new(&variant, &Device::Cpu, 1).err().expect("it is refused").to_string();
    let expected =
        "`encode-image` makes 24 numbers of a patch, 48 of the 2 that become one row, but `project-image` takes 96";
    assert_eq!(error, expected);
}
