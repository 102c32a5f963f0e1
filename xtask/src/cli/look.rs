//! The options of all verbs that say how things are shown.

use clap::{Args, ValueEnum};

use crate::error::Error;
use crate::report::terminal::{Colour, Detail, Look, Progress};

/// How things are shown.
#[derive(Debug, Args)]
pub(super) struct LookArgs {
    /// Colours; `auto` asks the terminal, and respects NO_COLOR and CLICOLOR_FORCE.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColourArg::Auto)]
    color: ColourArg,
    /// How work is shown while it goes on; `auto` is live on a terminal, and plain lines elsewhere and where CI is set.
    #[arg(long, global = true, value_enum, value_name = "HOW", default_value_t = ProgressArg::Auto)]
    progress: ProgressArg,
    /// Show problems and the result alone.
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Show every event.
    #[arg(long, short, global = true)]
    verbose: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ColourArg {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProgressArg {
    Auto,
    Plain,
    Live,
}

impl LookArgs {
    /// What the options ask for together.
    ///
    /// # Errors
    /// [`Error::Usage`] for two that contradict each other.
    pub fn look(&self) -> Result<Look, Error> {
        let detail = match (self.quiet, self.verbose) {
            (false, false) => Detail::Normal,
            (true, false) => Detail::Quiet,
            (false, true) => Detail::Verbose,
            (true, true) => return Err(Error::Usage("--quiet and --verbose: take one of them".into())),
        };
        let colour = match self.color {
            ColourArg::Auto => Colour::Auto,
            ColourArg::Always => Colour::Always,
            ColourArg::Never => Colour::Never,
        };
        let progress = match self.progress {
            ProgressArg::Auto => Progress::Auto,
            ProgressArg::Plain => Progress::Plain,
            ProgressArg::Live if detail == Detail::Quiet => {
                return Err(Error::Usage("--quiet and --progress live: take one of them".into()));
            }
            ProgressArg::Live => Progress::Live,
        };
        Ok(Look { colour, progress, detail })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        look: LookArgs,
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let look = |words: &[&str]| {
            let line = Line::try_parse_from(["x"].iter().chain(words)).unwrap();
            line.look.look().map_err(|error| error.to_string())
        };
        let plain = Look { colour: Colour::Never, progress: Progress::Plain, detail: Detail::Verbose };
        assert_eq!(look(&["-v", "--color", "never", "--progress=plain"]), Ok(plain));
        assert_eq!(look(&["-q"]).unwrap().detail, Detail::Quiet);
        assert!(look(&["-q", "-v"]).unwrap_err().contains("--quiet and --verbose"));
        assert!(look(&["-q", "--progress", "live"]).unwrap_err().contains("--progress live"));
    }
}
