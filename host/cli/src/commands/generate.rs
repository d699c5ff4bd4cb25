//! `aehost generate`: a configuration answers a prompt, and the text appears as it comes.

use crate::ending::{Ending, fault, usage};
use crate::output::Output;
use crate::subject::{Subject, SubjectArguments, pictures};
use aehost_common::{Fault, Settings};
use aehost_engine::{GenerationRequest, IMAGE_MARK, Image, Prompt};
use aehost_formats::Message;
use anyhow::{Context, Result};
use serde_json::json;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

const AFTER: &str = "\
Examples:
  aehost generate --study NAME --trial 7 \"Why is the sky blue?\"
  aehost generate --model model.gguf --raw --max-tokens 40 \"Once upon a time\"
  aehost generate --model SmolVLM --image photo.jpg \"What is this?\"
  echo \"Summarise: ...\" | aehost generate --study NAME -";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Arguments {
    /// The prompt; `-` reads it from standard input
    pub prompt: String,
    #[command(flatten)]
    pub subject: SubjectArguments,
    /// A picture (PNG or JPEG) before the prompt, or where it says `<image>`; repeatable, for models that take images
    #[arg(long, value_name = "FILE")]
    pub image: Vec<PathBuf>,
    /// Continue the prompt as plain text, without the chat template
    #[arg(long)]
    pub raw: bool,
    /// A message of the system before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub system: Option<String>,
    /// Tokens at most
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    /// 0 takes the most likely token each time; higher is more random
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub temperature: f64,
    /// Draw from the K most likely tokens
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: Option<u32>,
    /// Draw from the most likely tokens that have this probability together
    #[arg(long, value_name = "P")]
    pub top_p: Option<f64>,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u32,
}

impl Arguments {
    fn settings(&self) -> Settings {
        let mut settings = Settings::default()
            .with("max-tokens", i64::from(self.max_tokens))
            .with("temperature", self.temperature)
            .with("seed", i64::from(self.seed));
        if let Some(k) = self.top_k {
            settings.set("top-k", i64::from(k));
        }
        if let Some(p) = self.top_p {
            settings.set("top-p", p);
        }
        settings
    }

    fn prompt(&self) -> Result<Prompt> {
        let mut text = self.prompt.clone();
        if text == "-" {
            text.clear();
            std::io::stdin().read_to_string(&mut text).context("cannot read the prompt from standard input")?;
        }
        if text.trim().is_empty() {
            return Err(usage("the prompt is empty: give some text, or `-` to read it from standard input"));
        }
        let images: Vec<Arc<Image>> = pictures(&self.image)?.into_iter().map(Arc::new).collect();
        if !images.is_empty() && !text.contains(IMAGE_MARK) {
            text.insert_str(0, &IMAGE_MARK.repeat(images.len()));
        }
        let system = self.system.as_deref().map(|words| Message::new("system", words));
        let messages = system.into_iter().chain([Message::new("user", text)]).collect();
        Ok(Prompt { messages, chat: !self.raw, images })
    }
}

/// Runs it.
pub fn run(arguments: &Arguments, output: &Output) -> Result<Ending> {
    if !(arguments.temperature >= 0.0 && arguments.temperature.is_finite()) {
        return Err(usage("--temperature must be 0 or more"));
    }
    if arguments.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
        return Err(usage("--top-p must be more than 0 and at most 1"));
    }
    let prompt = arguments.prompt()?;
    let mut subject = Subject::of(&arguments.subject)?;
    let preparing = output.spinner(format!("preparing {}", subject.words()));
    let mut workbench = subject.open(&preparing, output)?;
    let model = workbench.language_model(&subject.configuration).map_err(fault)?;
    preparing.finish_and_clear();
    let request = GenerationRequest { prompt, settings: arguments.settings() };
    let mut unwritten = Ok(());
    let mut piece = |_: usize, text: &str| {
        if !output.json {
            unwritten = output.write(text);
        }
        unwritten.is_ok()
    };
    let generated =
        model.generate_streaming(std::slice::from_ref(&request), &mut piece).map_err(|e| fault(Fault::from(e)))?;
    unwritten?;
    let generated = generated.into_iter().next().context("the engine gave no answer")?;
    let json = json!({
        "model": subject.plan.model,
        "study": subject.record.map(|record| record.name),
        "trial": subject.trial,
        "configuration": subject.configuration,
        "text": generated.text,
        "tokens": generated.tokens,
        "finish": generated.finish,
    });
    output.result(&json, || "\n".into())?;
    // The process ends here, and what it holds goes with it at once: taken apart, a tokenizer alone takes as long as tokens.
    std::mem::forget((model, workbench));
    Ok(Ending::Done)
}
