use aehost_study::*;
use aehost_worker::*;
fn main() {
    let t = std::time::Instant::now();
    let home = std::env::var("HOME").unwrap() + "/.cache/aehost/";
    let setup = Setup {
        model_path: (home.clone() + "models/smollm2-135m-instruct.gguf").into(),
        plugin_dirs: vec!["plugins".into()],
        plugin_cache: Some("/tmp/s/pcache".into()),
        granted: vec![],
        device: "cpu".into(),
        threads: 2,
        reference: Some(aehost_engine::FloatType::F16),
        scenario: Scenario::default(),
        evaluators: vec![],
        calibration: Some(CalibrationSetup { data: (home.clone() + "data/andersen.txt").into(), tokens: 4096 }),
        energy: None,
        trial_seconds: 600.0,
        lease: false,
    };
    let mut b = Workbench::open(&setup, None).unwrap();
    println!("open {:?}", t.elapsed());
    let d = b.describe().unwrap();
    for s in &d.space {
        println!(
            "{} {:?}",
            s.description.identity.id,
            s.parameters.iter().map(|p| format!("{}: {} [{}]", p.name, p.domain, p.default)).collect::<Vec<_>>()
        );
    }
    println!("{:?}", d.not_applicable);
    let configs: Vec<Configuration> = std::env::args().skip(1).map(|a| serde_json::from_str(&a).unwrap()).collect();
    for c in [Configuration::default()].iter().chain(&configs) {
        let t = std::time::Instant::now();
        println!("{c:?}\npredict {:?} {:?}", b.predict(c), t.elapsed());
        let (p, o) = (256, 32);
        let r = b.bench(c, &BenchPlan { prompt_tokens: p, output_tokens: o, depth: 0, repeat: 3 }).unwrap();
        println!(
            "prefill {:.0} decode {:.1} ttft {:.1} load {:.0} peak {:.1} MB",
            r.prefill_tokens_per_second.median,
            r.decode_tokens_per_second.unwrap().median,
            r.ttft_ms.median,
            r.load_ms.median,
            r.peak_memory_bytes.unwrap().median / 1e6
        );
        let lm = b.language_model(c).unwrap();
        let text = std::fs::read_to_string(home.clone() + "data/grimm.txt").unwrap();
        let text: String = text.chars().take(16000).collect();
        let t = std::time::Instant::now();
        let r = lm.rolling(&[text], 512, 0).unwrap();
        println!(
            "ppl {:.3} {} tokens in {:?}",
            (-r[0].log_likelihood / r[0].tokens as f64).exp(),
            r[0].tokens,
            t.elapsed()
        );
        let g = lm
            .generate(&[aehost_engine::GenerationRequest {
                prompt: aehost_engine::Prompt::chat("What is the capital of France?"),
                settings: aehost_common::Settings::default().with("max-tokens", 24i64),
            }])
            .unwrap();
        println!("{g:?}");
    }
}
