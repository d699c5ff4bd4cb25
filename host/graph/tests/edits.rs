//! Edits either succeed or change nothing, and the documentation lists every op with its attributes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use aehost_common::{Setting, Settings};
use aehost_graph::{Filter, Graph, NodeId, Slot, Spec, ValueId, ValueType, ops};

fn graph() -> (Graph, ValueId) {
    let mut graph = Graph::default();
    graph.add_function("decode").unwrap();
    let ids = graph.add_input("decode", "ids", ValueType::indices()).unwrap();
    graph.declare_weight("embedding.weight", &[10, 4]);
    graph.declare_weight("square.weight", &[4, 4]);
    (graph, ids)
}

fn spec(name: &str, op: &str, inputs: &[ValueId], weight: Option<&str>) -> Spec {
    Spec {
        function: "decode".into(),
        name: name.into(),
        role: "other".into(),
        layer: None,
        op: op.into(),
        attributes: Settings::default(),
        inputs: inputs.to_vec(),
        weights: weight.map(|w| Slot { name: "weight".into(), weight: w.into() }).into_iter().collect(),
    }
}

/// embedding -> square -> head, where the head is tied to the embedding.
fn model() -> (Graph, Vec<(NodeId, ValueId)>) {
    let (mut graph, ids) = graph();
    let mut made = Vec::new();
    let mut x = ids;
    for (name, op, weight) in [
        ("embedding", "embedding", "embedding.weight"),
        ("square", "linear", "square.weight"),
        ("head", "linear", "embedding.weight"),
    ] {
        let node = graph.insert(spec(name, op, &[x], Some(weight))).unwrap();
        x = node.outputs[0];
        made.push((node.id, x));
    }
    graph.set_output("decode", "logits", x).unwrap();
    (graph, made)
}

#[test]
fn shapes_follow_from_weights() {
    let (graph, made) = model();
    assert_eq!(graph.value_type(made[2].1).unwrap().to_string(), "[tokens, 10]");
    assert_eq!(graph.users("embedding.weight"), [made[0].0, made[2].0], "tied weights have two users");
}

#[test]
fn a_refused_edit_names_the_node_and_changes_nothing() {
    let (mut graph, made) = model();
    let before = graph.clone();
    let refused = [
        (
            graph.insert(spec("bad", "linear", &[made[2].1], Some("square.weight"))).err(),
            "node `bad` (linear): input `x` has width 10, expected 4",
        ),
        (graph.insert(spec("square", "silu", &[made[1].1], None)).err(), "node `square` exists already"),
        (
            graph.insert(spec("bad", "linear", &[made[1].1], Some("none"))).err(),
            "node `bad` (linear): its slot `weight` names weight `none`, which does not exist",
        ),
        (
            graph.insert(spec("bad", "convolve", &[made[1].1], None)).err(),
            "node `bad` (convolve): op `convolve` is unknown",
        ),
        (
            graph.set_attribute(made[1].0, Setting::new("speed", 3i64)).err(),
            "node `square` (linear): attribute `speed` is unknown",
        ),
        (
            graph.replace_uses(made[1].1, made[2].1, &[]).err(),
            "value 2 of shape [tokens, 4] cannot become value 3 of shape [tokens, 10]",
        ),
        (graph.remove(made[0].0).err(), "node `embedding` cannot be removed: its output is used by `square`"),
    ];
    for (error, expected) in refused {
        let text = error.expect(expected).to_string();
        assert!(text.starts_with(expected), "{text}");
    }
    assert_eq!(graph, before);
}

#[test]
fn a_dropped_node_takes_its_weight_along() {
    let (mut graph, made) = model();
    graph.replace_uses(made[1].1, made[0].1, &[]).unwrap();
    graph.check().unwrap();
    let names: Vec<&str> = graph.filtered(&Filter::default()).iter().map(|n| n.spec.name.as_str()).collect();
    assert_eq!(names, ["embedding", "head"]);
    assert_eq!(graph.weight_shape("square.weight"), None);
    assert!(graph.insert(spec("square", "silu", &[made[0].1], None)).is_ok(), "the name is free again");
}

#[test]
fn a_function_of_another_model_comes_with_its_weights_and_facts_under_its_name() {
    let (mut other, _) = model();
    other.set_fact(Setting::new("context", 64i64));
    let (mut graph, _) = model();
    graph.import_function(&other, "decode", "draft", |weight| format!("draft.{weight}")).unwrap();
    graph.check().unwrap();
    let draft = Filter { function: Some("draft".into()), ..Filter::default() };
    let nodes = graph.filtered(&draft);
    let weights: Vec<&str> = nodes.iter().filter_map(|node| node.spec.weight("weight")).collect();
    assert_eq!(weights, ["draft.embedding.weight", "draft.square.weight", "draft.embedding.weight"], "tied as there");
    assert_eq!(graph.function("draft").unwrap().outputs[0].value, nodes[2].outputs[0]);
    assert_eq!((graph.fact("draft.context"), graph.fact("context")), (Some(&64i64.into()), None));
    let taken = graph.import_function(&other, "decode", "draft", str::to_owned).unwrap_err().to_string();
    assert_eq!(taken, "function `draft` exists already");
    let none = graph.import_function(&other, "encode", "other", str::to_owned).unwrap_err().to_string();
    assert_eq!(none, "there is no function `encode`");
    let ids = other.function("decode").unwrap().inputs[0].value;
    other.add_function("encode").unwrap();
    let stray = Spec { function: "encode".into(), ..spec("stray", "embedding", &[ids], Some("embedding.weight")) };
    other.insert(stray).unwrap();
    let stray = graph.import_function(&other, "encode", "other", str::to_owned).unwrap_err().to_string();
    assert!(stray.starts_with("there is no value"), "{stray}");
}

#[test]
fn a_cycle_is_refused() {
    let (mut graph, made) = model();
    // The square now reads what it makes itself.
    graph.replace_uses(made[0].1, made[1].1, &[]).unwrap();
    let error = graph.check().unwrap_err().to_string();
    assert!(error.starts_with("function `decode` has a cycle"), "{error}");
}

#[test]
fn a_weight_of_another_shape_is_found_by_the_check() {
    let (mut graph, _) = model();
    graph.declare_weight("square.weight", &[6, 4]);
    let error = graph.check().unwrap_err().to_string();
    assert_eq!(error, "node `head` (linear): input `x` has width 6, expected 4");
}

#[test]
fn the_documentation_lists_every_op() {
    let text = include_str!("../../../docs/ops.md");
    for op in ops() {
        let row = text.lines().find(|l| l.starts_with('|') && l.contains(&format!("`{}`", op.name)));
        let row = row.unwrap_or_else(|| panic!("docs/ops.md has no row for `{}`", op.name));
        for attribute in op.attributes() {
            assert!(row.contains(attribute), "docs/ops.md: the row of `{}` lacks its attribute `{attribute}`", op.name);
        }
    }
}
