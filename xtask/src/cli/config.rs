//! `cargo xtask config`: the settings in effect, and where each was set.

use serde_json::{Number, Value, json};

use super::settings::{Origin, Row, RunFlags, Settings};
use super::{Context, Format};
use crate::error::EXIT_PASSED;
use crate::guard::state_dir;
use crate::host::patience::{Patience, patience};
use crate::host::undo::named_state_dir;
use crate::manifest::{PatienceFactor, Timeout, nearest};
use crate::record::RecordedPatience;
use crate::report::terminal::println;

/// Variables that begin with `E2E_`, mean something to the engine, and are no settings.
const OTHER_VARIABLES: [&str; 7] =
    ["E2E_ROOT", "E2E_TRUST", "E2E_STATE_DIR", "E2E_SOCKET", "E2E_EXEC", "E2E_HOG", "E2E_WRITE_REFERENCE"];

/// Prefix of the variables that the engine's own tests use.
const TEST_VARIABLES: &str = "E2E_TEST_";

/// Show settings, and where each was set.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show every setting with its value and origin
    #[command(
        before_long_help = "\
Examples:
  cargo xtask config show
  cargo xtask config show --retries 2 --format json",
        after_long_help = "A flag takes precedence over an environment variable, a variable over e2e.toml, and e2e.toml over the \
                           built-in default. Flags of `e2e` are shown with their effect."
    )]
    Show(Box<RunFlags>),
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let Action::Show(flags) = &args.action;
    let settings = context.settings.with_run(flags);
    let Patience { factor, process_start } = patience();
    let patience = RecordedPatience::of(factor, process_start);
    let mut rows = places(context);
    rows.extend(settings.rows());
    let strange = strange_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
    if context.format == Format::Json {
        let rows: Vec<Value> = rows.iter().map(as_json).collect();
        println!(
            "{:#}",
            json!({
                "format_version": 1,
                "settings": rows,
                "patience": patience,
                "unknown_variables": strange,
            })
        );
        return Ok(EXIT_PASSED);
    }
    let width = |of: &dyn Fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let (keys, values) = (width(&|row| row.key.len()), width(&|row| row.value.chars().count()));
    for row in &rows {
        let own = match settings.timeout.value {
            Timeout::UnlessOwn(_) if row.key == "timeout" => "; a scenario's own timeout takes precedence".to_owned(),
            _ if row.key == "patience" && settings.patience.value == PatienceFactor::Auto => {
                format!("; on this machine {patience}")
            }
            _ => String::new(),
        };
        println!("{:<keys$}  {:<values$}  {}{own}", row.key, row.value, row.origin);
    }
    for name in strange {
        println!("{}", strange_line(&name));
    }
    Ok(EXIT_PASSED)
}

/// Returns rows for the folders of the project and of the engine's state, which variables can set, but not `e2e.toml`.
fn places(context: &Context) -> Vec<Row> {
    let of_state = match named_state_dir() {
        Some(_) => Origin::Variable("E2E_STATE_DIR".into()),
        None => Origin::BuiltIn,
    };
    vec![
        Row { key: "root", value: context.root.display().to_string(), origin: context.root_origin.clone() },
        Row { key: "state_dir", value: state_dir().display().to_string(), origin: of_state },
    ]
}

fn as_json(row: &Row) -> Value {
    let value = serde_json::from_str::<Number>(&row.value).map_or_else(|_| json!(row.value), Value::Number);
    let origin = match &row.origin {
        Origin::BuiltIn => json!({ "kind": "built_in" }),
        Origin::File { line } => json!({ "kind": "file", "path": "e2e.toml", "line": line }),
        Origin::Variable(name) => json!({ "kind": "environment", "variable": name }),
        Origin::Flag(name) => json!({ "kind": "flag", "flag": name }),
    };
    json!({ "name": row.key, "value": value, "origin": origin })
}

/// Returns the variables that begin with `E2E_` and mean nothing to the engine, such as misspelt ones.
fn strange_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let known: Vec<String> = Settings::variables().chain(OTHER_VARIABLES.map(str::to_owned)).collect();
    let is_strange =
        |name: &String| name.starts_with("E2E_") && !name.starts_with(TEST_VARIABLES) && !known.contains(name);
    let mut strange: Vec<String> = names.filter(is_strange).collect();
    strange.sort();
    strange
}

fn strange_line(name: &str) -> String {
    let known: Vec<String> = Settings::variables().collect();
    let hint = nearest(name, known.iter().map(String::as_str))
        .map_or_else(String::new, |near| format!(": did you mean {near}?"));
    format!("{name} is set in the environment, but is no setting of the engine{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_sets_nothing_is_told() {
        let names = ["E2E_RETRY", "E2E_RETRIES", "E2E_TEST_SEED", "E2E_ROOT", "HOME"].map(str::to_owned);
        assert_eq!(strange_variables(names.into_iter()), ["E2E_RETRY"]);
        let expected =
            "E2E_RETRY is set in the environment, but is no setting of the engine: did you mean E2E_RETRIES?";
        assert_eq!(strange_line("E2E_RETRY"), expected);
    }

    #[test]
    fn a_setting_for_programs() {
        let row = Row { key: "slot", value: "71".into(), origin: Origin::Variable("E2E_SLOT".into()) };
        let expected = json!({
            "name": "slot", "value": 71, "origin": { "kind": "environment", "variable": "E2E_SLOT" },
        });
        assert_eq!(as_json(&row), expected);
        let row = Row { key: "ttl", value: "never".into(), origin: Origin::File { line: 3 } };
        assert_eq!(as_json(&row)["origin"], json!({ "kind": "file", "path": "e2e.toml", "line": 3 }));
    }
}
