use super::*;
use serde_json::Value;

fn reference() -> Value {
    serde_json::from_str(include_str!("reference.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn rows(value: &Value) -> Vec<Row> {
    value.as_array().unwrap().iter().map(|row| numbers(row).into_iter().enumerate().collect()).collect()
}

#[test]
fn a_tree_is_that_of_the_reference() {
    let reference = reference();
    let table = Table::new(&rows(&reference["tree"]["rows"]), 4);
    let (target, weights) = (numbers(&reference["tree"]["target"]), numbers(&reference["tree"]["weights"]));
    let options = Options { features: 1.0, rate: 1.0, ..Options::default() };
    let tree = Tree::fit(&table, &target, &weights, &options, &mut Random::new(1));
    // Cuts between which there are only rows without weight are equal; where such rows fall is open.
    for (i, expected) in
        numbers(&reference["tree"]["values"]).into_iter().enumerate().filter(|(i, _)| weights[*i] > 0.0)
    {
        let value = tree.predict(table.dense(i));
        assert!((value - expected).abs() < 1e-9, "{i}: {value} {expected}");
    }
}

/// Predictions for the rows that are tested, and their root mean square error.
fn tested(train: usize, options: &Options) -> (Vec<(f64, f64)>, f64, f64) {
    let reference = reference();
    let (all, target) = (rows(&reference["rows"]), numbers(&reference["target"]));
    let ensemble = fit(&all[..train], 6, &[target[..train].to_vec()], options, &mut Random::new(7)).remove(0);
    let predict = |row: &Row| ensemble.predict(row, &crate::rows::dense(row, 6));
    let predicted: Vec<(f64, f64)> = all[60..].iter().map(predict).collect();
    let squares = predicted.iter().zip(&target[60..]).map(|((mean, _), y)| (mean - y).powi(2));
    let error = (squares.sum::<f64>() / predicted.len() as f64).sqrt();
    (predicted, error, ensemble.error())
}

#[test]
fn it_predicts_no_worse_than_gradient_boosting_of_scikit_learn() {
    let theirs = reference()["error"].as_f64().unwrap();
    let (_, error, unseen) = tested(60, &Options::default());
    assert!(error < theirs, "{error}, scikit-learn {theirs}");
    assert!((0.6..1.6).contains(&(unseen / error)), "what it says of its error: {unseen}, and what it is: {error}");
}

#[test]
fn deviations_are_about_as_large_as_errors() {
    let target = numbers(&reference()["target"]);
    let (predicted, ..) = tested(60, &Options::default());
    let within =
        predicted.iter().zip(&target[60..]).filter(|((mean, deviation), y)| (mean - *y).abs() < 2.0 * deviation);
    let share = within.count() as f64 / predicted.len() as f64;
    assert!(share > 0.75, "{share} within two deviations");
}

#[test]
fn members_disagree_about_what_was_never_varied() {
    let rows: Vec<Row> = (0..20).map(|i| vec![(0, f64::from(i % 5) / 5.0 - 0.5)]).collect();
    let target = rows.iter().map(|row| row[0].1).collect();
    let ensemble = fit(&rows, 2, &[target], &Options::default(), &mut Random::new(2)).remove(0);
    let known = ensemble.predict(&[(0, 0.1)], &[0.1, 0.0]).1;
    let unknown = ensemble.predict(&[(0, 0.1), (1, 1.0)], &[0.1, 1.0]).1;
    assert!(unknown > 3.0 * known, "{unknown} {known}");
}

#[test]
fn few_rows_missing_targets_and_no_features_are_no_trouble() {
    let options = Options::default();
    let mut random = Random::new(1);
    let nothing = fit(&[], 0, &[vec![]], &options, &mut random).remove(0);
    assert_eq!(nothing.predict(&[], &[]), (0.0, 1.0));
    let rows: Vec<Row> = vec![vec![]; 3];
    let targets = [vec![1.0, f64::NAN, 3.0], vec![f64::NAN; 3], vec![2.0; 3]];
    let ensembles = fit(&rows, 0, &targets, &options, &mut random);
    assert!((ensembles[0].predict(&[], &[]).0 - 2.0).abs() < 1.5);
    assert_eq!(ensembles[1].predict(&[], &[]), (0.0, 1.0));
    assert!((ensembles[2].predict(&[], &[]).0 - 2.0).abs() < 0.5);
}
