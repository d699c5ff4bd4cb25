use super::*;

fn parse(text: &str) -> Result<StudyFile, ConfigError> {
    StudyFile::parse(text, Path::new("study.toml"))
}

fn message(text: &str) -> String {
    match parse(text).and_then(|file| file.resolve(&Overrides::default())) {
        Ok(_) => panic!("it should be refused"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_empty_file_is_the_default_study() {
    let file = parse("").unwrap().resolve(&Overrides::default()).unwrap();
    assert_eq!(file.study.model, "smollm2-135m-instruct");
    let evaluators: Vec<_> =
        file.evaluator.iter().map(|e| (e.id.as_str(), e.data.as_deref(), e.items, e.confirm_items)).collect();
    assert_eq!(
        evaluators,
        [
            ("multiple-choice", Some("openbookqa"), Some(200), Some(500)),
            ("perplexity", None, Some(2), Some(27)),
            ("divergence", None, Some(1), Some(6)),
        ]
    );
    assert_eq!((file.strategy.id.as_str(), file.budget.trials()), ("ae-llm", 24));
    assert_eq!(file.budget.time(), TimeLimit(Some(900.0)));
    let patient = parse("[budget]\nuntil-converged = true").unwrap().resolve(&Overrides::default()).unwrap();
    assert_eq!((patient.budget.trials(), patient.budget.time()), (200, TimeLimit(None)));
    assert!(file.study.confirm);
}

#[test]
fn a_full_file_is_understood() {
    let file = parse(
        r#"
            [study]
            name = "mine"
            model = "models/tiny.gguf"
            device = "cuda:0"
            threads = 2
            seed = 7
            plugins = ["plugins"]
            objectives = ["accuracy", "energy"]
            constraints = ["memory.peak <= 150 MiB"]
            confirm = false

            [[evaluator]]
            id = "perplexity"
            data = "book.txt"
            items = 50
            settings = { window = 256 }

            [scenario]
            prompt-tokens = 128

            [strategy]
            id = "random"
            settings = { share = 0.5 }

            [budget]
            trials = 200
            time = "1h30m"

            [energy]
            watts-idle = 12
            watts-busy = 65.5

            [calibration]
            data = "novels"
            tokens = 4096
            "#,
    )
    .unwrap()
    .resolve(&Overrides::default())
    .unwrap();
    assert_eq!(file.study.constraints[0].bound, 157_286_400.0);
    assert_eq!((file.scenario.prompt_tokens, file.scenario.output_tokens), (128, 32));
    assert_eq!(file.evaluator[0].settings.get("window"), Some(&256i64.into()));
    assert_eq!(file.evaluator[0].confirm_items, Some(50));
    assert_eq!(file.budget.time(), TimeLimit(Some(5400.0)));
    assert_eq!(file.energy.unwrap().watts_busy, 65.5);
    assert_eq!(file.calibration.tokens, Some(4096));
}

#[test]
fn flags_are_laid_over_the_file() {
    let file = parse(
        "[study]\nname = 'a'\nseed = 1\nthreads = 4\n[[evaluator]]\nid = 'multiple-choice'\ndata = 'piqa'\nitems = 7\n\
             [strategy]\nid = 'grid'\nsettings = { x = 1 }",
    )
    .unwrap();
    let flags = Overrides {
        seed: Some(2),
        evaluators: vec!["multiple-choice".into(), "perplexity:book.txt".into()],
        strategy: Some("grid".into()),
        time: Some("2m".parse().unwrap()),
        ..Overrides::default()
    };
    let file = file.resolve(&flags).unwrap();
    assert_eq!((file.study.name.as_deref(), file.study.seed, file.study.threads), (Some("a"), 2, Some(4)));
    assert_eq!((file.evaluator[0].data.as_deref(), file.evaluator[0].items), (Some("piqa"), Some(7)));
    assert_eq!((file.evaluator[1].data.as_deref(), file.evaluator[1].items), (Some("book.txt"), Some(2)));
    assert_eq!(file.strategy.settings.get("x"), Some(&1i64.into()));
    assert_eq!(file.budget.time(), TimeLimit(Some(120.0)));
    let other = Overrides { strategy: Some("random".into()), ..Overrides::default() };
    assert_eq!(file.resolve(&other).unwrap().strategy.settings, Settings::default());
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_known_ones() {
    assert_eq!(
        message("[study]\nseed = 1\n\n[budget]\ntrails = 30\n"),
        "study file study.toml: TOML parse error at line 5, column 1\n  |\n5 | trails = 30\n  | ^^^^^^\n\
             unknown field `trails`, expected one of `trials`, `time`, `until-converged`"
    );
    assert_eq!(
        message("[studdy]\nseed = 1\n"),
        "study file study.toml: TOML parse error at line 1, column 2\n  |\n1 | [studdy]\n  |  ^^^^^^\n\
             unknown field `studdy`, expected one of `study`, `evaluator`, `scenario`, `strategy`, `budget`, `energy`, \
             `calibration`, `training`"
    );
}

#[test]
fn wrong_values_are_explained() {
    assert_eq!(
        message("[budget]\ntime = \"soon\"\n"),
        "study file study.toml: TOML parse error at line 2, column 8\n  |\n2 | time = \"soon\"\n  |        ^^^^^^\n\
             `soon` is no time: write it like 90s, 30m, 1h30m, or none"
    );
    assert_eq!(
        message("[study]\nconstraints = [\"memory.peak <= 3 apples\"]\n"),
        "study file study.toml: TOML parse error at line 2, column 15\n  |\n\
             2 | constraints = [\"memory.peak <= 3 apples\"]\n  |               ^^^^^^^^^^^^^^^^^^^^^^^^^^^\n\
             constraint \"memory.peak <= 3 apples\": unknown unit `apples`; known units: B, KB, MB, GB, KiB, MiB, GiB, \
             ms, s, %, J, tokens/s"
    );
    assert_eq!(
        message("[budget]\ntrials = 0\n"),
        "budget.trials is 0: the baseline is the first trial, so write at least 1"
    );
    assert_eq!(
        message("[energy]\nwatts-idle = 20\nwatts-busy = 10\n"),
        "energy: watts-idle must be at least 0, and watts-busy more than watts-idle"
    );
    assert_eq!(
        message("[[evaluator]]\nid = 'perplexity'\nitems = 0\n"),
        "evaluator perplexity: items and confirm-items must be at least 1"
    );
}

#[test]
fn times_are_read_as_people_write_them() {
    for (text, seconds) in [("90s", 90.0), ("30m", 1800.0), ("1h30m", 5400.0), ("1.5h", 5400.0), ("1h 5s", 3605.0)] {
        assert_eq!(text.parse::<TimeLimit>(), Ok(TimeLimit(Some(seconds))), "{text}");
    }
    for text in ["", "30", "m", "-5m", "5 days"] {
        assert!(text.parse::<TimeLimit>().is_err(), "{text}");
    }
}
