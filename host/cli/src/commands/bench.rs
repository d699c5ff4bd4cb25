//! `aehost bench`: the speed and memory of one configuration.

use crate::ending::{Ending, fault};
use crate::output::Output;
use crate::subject::{Subject, SubjectArguments, pictures};
use aehost_meter::{DeviceLease, Summary};
use aehost_worker::{BenchPlan, BenchResult, ImageFigures};
use anyhow::Result;
use indicatif::ProgressBar;
use std::ops::ControlFlow;
use std::path::PathBuf;

const AFTER: &str = "\
Examples:
  aehost bench --model model.gguf --prompt-tokens 512 --threads 2
  aehost bench --study NAME --trial 7 --depth 2048 --json

Under --json: {prefill_tokens_per_second, decode_tokens_per_second, ttft_ms,
tpot_ms, load_ms, peak_memory_bytes}, each with median and samples;
tokens_per_step and apply_ms, the time that techniques took; with --image images:
{views, tokens, prepare_ms, encode_ms}; and roofline, the machine's limits and
the shares of them that are reached; null where the machine or the plan gives no
figure.

All repeats share one process, and what one leaves behind counts for the next:
peak memory is that of the highest. Trials of a study have a process each.";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Arguments {
    #[command(flatten)]
    pub subject: SubjectArguments,
    /// Tokens of the timed prompt
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt_tokens: u32,
    /// Tokens generated after it
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub output_tokens: u32,
    /// Tokens that are in the cache before; not timed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub depth: u32,
    /// A picture (PNG or JPEG) whose encoding is timed, all of them together; repeatable, for models that take images
    #[arg(long, value_name = "FILE")]
    pub image: Vec<PathBuf>,
    /// Counted repeats, after one that is discarded
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
}

/// Runs it.
pub fn run(arguments: &Arguments, output: &Output) -> Result<Ending> {
    let mut subject = Subject::of(&arguments.subject)?;
    let plan = BenchPlan {
        prompt_tokens: arguments.prompt_tokens as usize,
        output_tokens: arguments.output_tokens as usize,
        depth: arguments.depth as usize,
        repeat: arguments.repeat as usize,
        images: pictures(&arguments.image)?,
    };
    // A line that is redrawn would be timed too.
    let mut workbench = subject.open(&ProgressBar::hidden(), output)?;
    let mut told = false;
    let _lease = DeviceLease::acquire(&subject.plan.device, |waiting| {
        if !std::mem::replace(&mut told, true) {
            output.say(&waiting.to_string());
        }
        ControlFlow::Continue(())
    })?;
    output.say(&format!("Timing {}, threads: {}", subject.words(), subject.plan.threads));
    let result = workbench.bench(&subject.configuration, &plan).map_err(fault)?;
    output.result(&result, || table(&result))?;
    Ok(Ending::Done)
}

fn table(result: &BenchResult) -> String {
    const MEBIBYTE: f64 = 1_048_576.0;
    let rows = [
        ("prefill, tokens/s", Some(&result.prefill_tokens_per_second), 1.0),
        ("decode, tokens/s", result.decode_tokens_per_second.as_ref(), 1.0),
        ("time to first token, ms", Some(&result.ttft_ms), 1.0),
        ("time per output token, ms", result.tpot_ms.as_ref(), 1.0),
        ("load, ms", Some(&result.load_ms), 1.0),
        ("peak memory, MiB", result.peak_memory_bytes.as_ref(), MEBIBYTE),
    ];
    let of_images = |read: fn(&ImageFigures) -> &Summary| result.images.as_ref().map(read);
    let images = [
        ("preparing pictures, ms", of_images(|images| &images.prepare_ms), 1.0),
        ("encoding pictures, ms", of_images(|images| &images.encode_ms), 1.0),
    ];
    let rows = rows.into_iter().chain(images.into_iter().filter(|_| result.images.is_some()));
    let mut text = format!("{:<28}{:>12}{:>12}{:>12}\n", "", "median", "least", "most");
    for (name, summary, unit) in rows {
        text += &match summary {
            Some(s) => {
                let [median, min, max] = [s.median, s.min, s.max].map(|value| value / unit);
                format!("{name:<28}{median:>12.2}{min:>12.2}{max:>12.2}\n")
            }
            None => format!("{name:<28}{:>12}\n", "unavailable"),
        };
    }
    if result.apply_ms >= 1.0 {
        text += &format!("{:<28}{:>12.2}\n", "applying techniques, ms", result.apply_ms);
    }
    if let Some(images) = &result.images {
        text += &format!("{:<28}{:>12}\n", "tokens of pictures", images.tokens);
    }
    if result.tokens_per_step > 1.0 {
        text += &format!("{:<28}{:>12.2}\n", "tokens per decoding step", result.tokens_per_step);
    }
    if let Some(roofline) = &result.roofline {
        let share = |share: f64| format!("{:.0} %", 100.0 * share);
        let (read, peak) = (roofline.read_bytes_per_s / 1e9, roofline.integer8_operations_per_s / 1e9);
        let float = roofline.float32_operations_per_s / 1e9;
        if let Some(decode) = roofline.decode_share {
            text += &format!("decode reads {} of the {read:.1} GB/s that memory gives\n", share(decode));
        }
        text += &format!(
            "prefill computes at {} of the peak ({peak:.0} Gop/s of bytes, {float:.0} Gop/s of float32, by AVX2)\n",
            share(roofline.prefill_share)
        );
    }
    text
}
