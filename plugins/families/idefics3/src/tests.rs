//! Layouts against those of transformers' image processor, and what is said of checkpoints that do not fit.

use super::*;
use aehost_sdk::family::testing::{Checkpoint, Recorder};
use std::collections::BTreeMap;

#[derive(Default)]
struct Stated(BTreeMap<String, Value>);

impl Facts for Stated {
    fn fact(&self, name: &str) -> Option<Value> {
        self.0.get(name).cloned()
    }
}

fn stated(side: i64, longest: i64, tiles: bool) -> Stated {
    let facts: [(&str, Value); 5] = [
        ("image.side", side.into()),
        ("image.longest-edge", longest.into()),
        ("image.tiles", tiles.into()),
        ("image.patch", 16i64.into()),
        ("image.block", 4i64.into()),
    ];
    Stated(facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Rows and columns of tiles that Idefics3ImageProcessor of transformers 4.57.6 gives for images of a width and height, with
/// tiles of 512 and a longest edge of 2048.
const TILES: [(u32, u32, (usize, usize)); 7] = [
    (640, 480, (3, 4)),
    (480, 640, (4, 3)),
    (512, 512, (4, 4)),
    (2000, 100, (1, 4)),
    (100, 2000, (4, 1)),
    (333, 1000, (4, 2)),
    (5000, 4000, (4, 4)),
];

#[test]
fn images_are_cut_as_by_transformers() {
    for (width, height, (rows, columns)) in TILES {
        let layout = Idefics3::layout(&stated(512, 2048, true), width, height).unwrap();
        assert_eq!(layout.views.len(), rows * columns + 1, "{width} x {height}");
        let last = format!("<row_{rows}_col_{columns}>");
        assert!(layout.text.contains(&last), "{width} x {height}: no {last}");
        assert!(!layout.text.contains(&format!("<row_{rows}_col_{}>", columns + 1)));
        assert_eq!(layout.text.matches("<image>").count(), 64 * layout.views.len());
    }
}

#[test]
fn an_image_that_is_not_cut_is_one_view() {
    for facts in [stated(512, 2048, false), stated(512, 512, true)] {
        let layout = Idefics3::layout(&facts, 640, 640).unwrap();
        assert_eq!(layout.views.len(), 1);
        assert!(layout.text.starts_with("<fake_token_around_image><global-img><image>"), "{}", layout.text);
        assert!(layout.text.ends_with("<image><fake_token_around_image>"));
    }
}

#[test]
fn a_fact_that_a_technique_broke_is_named() {
    let mut facts = stated(512, 2048, true);
    facts.0.insert("image.side".into(), 0i64.into());
    let error = Idefics3::layout(&facts, 640, 480).unwrap_err();
    assert_eq!(error.message, "the model's fact `image.side` must be at least 1");
}

fn checkpoint() -> Checkpoint {
    let mut checkpoint = Checkpoint::new("safetensors").with("model_type", "idefics3").with("scale_factor", 2i64);
    for (key, value) in [
        ("text_config.num_hidden_layers", 1i64),
        ("text_config.hidden_size", 8),
        ("text_config.num_attention_heads", 2),
        ("text_config.intermediate_size", 16),
        ("text_config.max_position_embeddings", 64),
        ("vision_config.num_hidden_layers", 1),
        ("vision_config.hidden_size", 4),
        ("vision_config.num_attention_heads", 2),
        ("vision_config.patch_size", 2),
        ("preprocessor.max_image_size.longest_edge", 8),
    ] {
        checkpoint = checkpoint.with(key, value);
    }
    checkpoint.with("text_config.rms_norm_eps", 1e-6)
}

fn refused(checkpoint: &Checkpoint) -> String {
    let recorder = Recorder::default();
    Idefics3::build(checkpoint, &mut Builder::new(checkpoint, &recorder)).unwrap_err().message
}

#[test]
fn what_does_not_fit_is_told() {
    let tower = checkpoint().with("preprocessor.max_image_size.longest_edge", 10i64);
    assert_eq!(
        refused(&tower),
        "tiles of 10 pixels (preprocessor_config.json: max_image_size) are no whole blocks of 2 x 2 patches of 2 pixels"
    );
    let missing = refused(&checkpoint());
    assert!(missing.contains("model.vision_model.embeddings.patch_embedding.weight"), "{missing}");
    let gguf = Checkpoint::new("gguf").with("general.architecture", "idefics3");
    assert_eq!(refused(&gguf), "idefics3 is built from safetensors only, not from GGUF");
}
