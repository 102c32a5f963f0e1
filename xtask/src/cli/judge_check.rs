//! `cargo xtask judge-check`: measures how often the rules for performance verdicts are wrong.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::settings::SlotFlag;
use super::{Context, Format, sudo};
use crate::error::{EXIT_PASSED, Error};
use crate::host::doctor::require_tools;
use crate::host::invoker::is_root;
use crate::host::tools::packages::{Use, Uses};
use crate::input;
use crate::manifest::Project;
use crate::rates::{Comparisons, LiveCheck, Rate, Recording, Windows, live_check};
use crate::report::terminal::println;
use crate::run::{Interrupt, Options};

/// Measure the error rates of the verdict rules.
///
/// For each rule: how often it calls identical work changed, and how often it detects slower work.
#[derive(Debug, clap::Args)]
#[command(
    before_long_help = "\
Examples:
  cargo xtask judge-check timings.csv
  cargo xtask judge-check --live --more 0,10 --duets 20",
    after_long_help = "FILE is CSV without a header, in the layout of xtask/tests/data/noise/raw.csv, which \
                        xtask/stats/README.md describes, with the results.\n\n\
                        A window is a range of rounds used by one comparison. Windows in order do not overlap; random \
                        windows do, so the intervals of their rates are too narrow."
)]
pub struct Args {
    /// Recorded timings of identical and of slower work.
    #[arg(required_unless_present = "live", conflicts_with = "live", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Measure duets on this machine instead of reading recorded timings.
    #[arg(long)]
    live: bool,
    /// With --live: additional work of the candidate, in percent; 0 is identical work.
    #[arg(long, requires = "live", value_name = "PERCENT", value_delimiter = ',', default_values_t = [0, 5, 10, 20],
          value_parser = clap::value_parser!(u32).range(0..=100))]
    more: Vec<u32>,
    /// With --live: number of duets for each amount of work; each duet gives six verdicts.
    #[arg(long, requires = "live", value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    duets: u32,
    #[command(flatten)]
    slot: SlotFlag,
    /// Number of comparisons from random windows, for each rule, metric, workload and effect.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    random: u32,
    /// Use only random windows.
    #[arg(long)]
    random_only: bool,
    /// Random seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl Args {
    /// Tells whether this command line creates labs, as only `--live` does.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    if args.live {
        return live(args, context);
    }
    let recordings: Vec<Recording> = args.files.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    let windows = match (args.random, args.random_only) {
        (0, true) => return Err(Error::Usage("--random-only with --random 0 leaves no comparisons".into()).into()),
        (0, false) => Windows::InOrder,
        (count, true) => Windows::Random(count),
        (count, false) => Windows::Both(count),
    };
    let rates = Comparisons { windows, seed: args.seed }.run(&recordings);
    if rates.is_empty() {
        let message = "too few rounds for any comparison: at least 20 rounds must have variant A0 and one other";
        return Err(Error::Usage(message.into()).into());
    }
    print(&rates, context);
    if context.format == Format::Json {
        return Ok(EXIT_PASSED);
    }
    let passed_over: usize = recordings.iter().map(|recording| recording.passed_over).sum();
    if passed_over > 0 {
        println!(
            "{passed_over} lines were skipped: they begin with `par`, which marks simultaneous runs, and the rules judge runs in sequence"
        );
    }
    Ok(EXIT_PASSED)
}

/// Measures duets in labs on this machine, and prints the error rates of the rules.
fn live(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let project = Project::read(&context.root)?;
    if !is_root() {
        return sudo::again();
    }
    require_tools(&Uses::from([Use::Busybox]))?;
    let interrupt = Interrupt::listen()?;
    let check = LiveCheck { percents: args.more.clone(), duets: args.duets, seed: args.seed };
    let observe = |line: String| context.terminal.say(&line);
    let rates =
        live_check(&project, &check, &Options::plain(args.slot.number(&context.settings))?, &interrupt, &observe)?;
    print(&rates, context);
    Ok(EXIT_PASSED)
}

fn print(rates: &[Rate], context: &Context) {
    if context.format == Format::Json {
        println!("{:#}", serde_json::to_value(rates).unwrap_or(Value::Null));
        return;
    }
    println!("regressed in percent of the comparisons, with its 95 % interval; at +0 % each one is a false alarm");
    for rate in rates {
        println!("{}", line(rate));
    }
}

fn read(path: &Path) -> Result<Recording, Error> {
    Recording::parse(path, &input::read_text(path)?)
}

fn line(rate: &Rate) -> String {
    let (share, low, high) = rate.regressed_percent();
    format!(
        "{:<16} {:<15} {:<6} +{:<2} %  {share:5.1} ({low:4.1} to {high:5.1})  n {:<5} improved {:<4} unchanged {:<4} \
         inconclusive {:<4} pairs {:.0}",
        rate.rule,
        rate.metric,
        rate.workload,
        rate.effect_percent,
        rate.comparisons,
        rate.improved,
        rate.unchanged,
        rate.inconclusive,
        rate.pairs_mean
    )
}
