//! Display options, which all verbs have.

use clap::Args;

use super::help::EVERYWHERE;
use super::settings::{Origin, Settings, one_of};
use crate::error::Error;
use crate::manifest::{ColorWhen, ProgressHow};
use crate::report::terminal::{Color, Detail, Look, Progress};

/// Display options.
#[derive(Debug, Args)]
pub(super) struct LookArgs {
    /// Use of colors.
    ///
    /// `auto`, the default, uses colors on a terminal, and respects NO_COLOR and CLICOLOR_FORCE.
    #[arg(long, global = true, value_name = "WHEN", value_parser = one_of::<ColorWhen>(), help_heading = EVERYWHERE)]
    color: Option<ColorWhen>,
    /// Display of progress.
    ///
    /// `auto`, the default, is `live` on a terminal, and `plain` elsewhere and if CI is set.
    #[arg(long, global = true, value_name = "HOW", value_parser = one_of::<ProgressHow>(), help_heading = EVERYWHERE)]
    progress: Option<ProgressHow>,
    /// Show only problems and the result.
    #[arg(long, short, global = true, help_heading = EVERYWHERE)]
    quiet: bool,
    /// Show every event.
    #[arg(long, short, global = true, help_heading = EVERYWHERE)]
    verbose: bool,
}

impl LookArgs {
    /// Returns the settings, in which these options replace other values.
    pub fn above(&self, settings: &Settings) -> Settings {
        settings.with_look(self.color, self.progress)
    }

    /// Returns the display that the options and settings ask for together.
    ///
    /// # Errors
    /// [`Error::Usage`] for two options that contradict each other.
    pub fn look(&self, settings: &Settings) -> Result<Look, Error> {
        let detail = match (self.quiet, self.verbose) {
            (false, false) => Detail::Normal,
            (true, false) => Detail::Quiet,
            (false, true) => Detail::Verbose,
            (true, true) => {
                return Err(Error::Usage("--quiet and --verbose contradict each other: use one of them".into()));
            }
        };
        let color = match settings.color.value {
            ColorWhen::Auto => Color::Auto,
            ColorWhen::Always => Color::Always,
            ColorWhen::Never => Color::Never,
        };
        let progress = match settings.progress.value {
            ProgressHow::Auto => Progress::Auto,
            ProgressHow::Plain => Progress::Plain,
            // A default is for terminals of all kinds, and for runs without one.
            ProgressHow::Live if !matches!(settings.progress.origin, Origin::Flag(_)) => Progress::LiveIfPossible,
            ProgressHow::Live if detail == Detail::Quiet => {
                return Err(Error::Usage("--quiet and --progress live contradict each other: use one of them".into()));
            }
            ProgressHow::Live => Progress::Live,
        };
        Ok(Look { color, progress, detail })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser;

    use super::*;
    use crate::manifest::Defaults;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        look: LookArgs,
    }

    fn look(words: &[&str], progress: Option<&str>) -> Result<Look, String> {
        let line = Line::try_parse_from(["x"].iter().chain(words)).unwrap();
        let variable = |name: &str| progress.filter(|_| name == "E2E_PROGRESS").map(OsString::from);
        let settings = Settings::below_flags(&Defaults::default(), &variable).unwrap();
        line.look.look(&line.look.above(&settings)).map_err(|error| error.to_string())
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let plain = Look { color: Color::Never, progress: Progress::Plain, detail: Detail::Verbose };
        assert_eq!(look(&["-v", "--color", "never", "--progress=plain"], None), Ok(plain));
        assert_eq!(look(&["-q"], None).unwrap().detail, Detail::Quiet);
        assert!(look(&["-q", "-v"], None).unwrap_err().contains("--quiet and --verbose"));
        assert!(look(&["-q", "--progress", "live"], None).unwrap_err().contains("--progress live"));
    }

    #[test]
    fn a_default_gives_way_to_what_contradicts_it() {
        assert_eq!(look(&[], Some("live")).unwrap().progress, Progress::LiveIfPossible);
        assert_eq!(look(&["-q"], Some("live")).unwrap().progress, Progress::LiveIfPossible);
        assert_eq!(look(&["--progress", "plain"], Some("live")).unwrap().progress, Progress::Plain);
    }
}
