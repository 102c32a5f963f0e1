//! Choice of a run's cases by filters, and the order in which the cases run.

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_pcg::Pcg64;

use super::shard::{Shard, split};
use crate::error::Error;
use crate::manifest::{Case, Durations, Project, Scenario, nearest};

/// Cases of a run, in the order in which they run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Cases in the order in which they run, repetitions included.
    pub cases: Vec<PlannedCase>,
    /// Seed of the random order; `None` for the order by name.
    pub shuffle_seed: Option<u64>,
    /// Shard of the suite to which the cases belong; `None` if the suite is not split.
    pub part: Option<Part>,
}

/// Shard, together with the suite of which it is a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub shard: Shard,
    /// Every case of the suite, repetitions included, in the order of their names.
    pub suite: Vec<String>,
}

/// Single repetition of a case in a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedCase {
    /// Name of the case, `category/scenario:case`, with `#2` for the second repetition.
    pub id: String,
    /// Folder of the case below the run's folder: `category/scenario`, and the case's name if the scenario has several cases.
    pub folder: String,
    /// Index of the case's scenario among the project's scenarios.
    pub scenario: usize,
    pub case: Case,
    /// Maximum memory in bytes that all containers of the case use together.
    pub memory_bytes: u64,
}

/// Number of repetitions and order of a plan's cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Number of runs of each case.
    pub repeat: u32,
    /// Seed of a random order; `None` for the order by name.
    pub shuffle_seed: Option<u64>,
}

impl Order {
    /// One run of each case, in the order by name.
    pub const ONCE: Self = Self { repeat: 1, shuffle_seed: None };
}

impl Plan {
    /// Plans the cases that match any of the filters; all cases if there are no filters.
    ///
    /// # Errors
    /// [`Error::Usage`] for a filter that matches nothing, with the nearest name.
    pub fn make(project: &Project, filters: &[String], order: Order) -> Result<Self, Error> {
        let filters: Vec<Filter> = filters.iter().map(|text| Filter::parse(text, project)).collect::<Result<_, _>>()?;
        let mut cases = Vec::new();
        for repetition in 1..=order.repeat {
            for (index, scenario) in project.scenarios.iter().enumerate() {
                for case in &scenario.cases {
                    let asked = filters.iter().any(|filter| filter.names(scenario, &case.name));
                    let matches =
                        filters.is_empty() || filters.iter().any(|filter| filter.matches(scenario, &case.name));
                    if asked || matches && !case.on_request {
                        cases.push(planned(project, index, scenario, case, repetition));
                    }
                }
            }
        }
        if let Some(seed) = order.shuffle_seed {
            cases.shuffle(&mut Pcg64::seed_from_u64(seed));
        }
        Ok(Self { cases, shuffle_seed: order.shuffle_seed, part: None })
    }

    /// Puts the cases into the order of an earlier run, repetition by repetition; cases that the earlier run did not have come last.
    pub fn order_as(&mut self, earlier: &[&str]) {
        let place = |id: &str| {
            let (case, repetition) = id.split_once('#').unwrap_or((id, "1"));
            let place = earlier.iter().position(|other| other.split('#').next() == Some(case));
            (repetition.parse::<u32>().unwrap_or(1), place.unwrap_or(usize::MAX))
        };
        self.cases.sort_by_key(|case| place(&case.id));
    }

    /// Returns the scenarios of the plan's cases, each once, in the project's order.
    pub fn scenarios<'a>(&'a self, project: &'a Project) -> impl Iterator<Item = &'a Scenario> {
        let planned = |index: usize| self.cases.iter().any(|case| case.scenario == index);
        project.scenarios.iter().enumerate().filter(move |(index, _)| planned(*index)).map(|(_, scenario)| scenario)
    }

    /// Returns the names of the templates of the plan's containers, each once.
    #[must_use]
    pub fn templates(&self, project: &Project) -> Vec<String> {
        let containers = self.cases.iter().flat_map(|case| &project.scenarios[case.scenario].containers);
        let mut names: Vec<String> = containers.map(|container| container.template.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Keeps only the cases of one shard, in their order. The longest cases are assigned first, each to the shard with the least total
    /// duration so far, so that shards take about equally long; a case without a recorded duration counts as one of medium length. The
    /// order of the plan does not affect which cases a shard has.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are more shards than cases: an empty shard would pass without running anything.
    pub fn keep_shard(&mut self, shard: Shard, durations: &Durations) -> Result<(), Error> {
        let mut suite: Vec<String> = self.cases.iter().map(|case| case.id.clone()).collect();
        suite.sort();
        if (suite.len() as u64) < u64::from(shard.of) {
            return Err(Error::Usage(format!(
                "--shard {shard}: more shards than cases ({}), so one would be empty; take no more shards than cases",
                suite.len()
            )));
        }
        let shards = split(&suite, shard.of, durations);
        self.cases.retain(|case| shards[case.id.as_str()] == shard.number);
        self.part = Some(Part { shard, suite });
        Ok(())
    }
}

fn planned(project: &Project, index: usize, scenario: &Scenario, case: &Case, repetition: u32) -> PlannedCase {
    let suffix = if repetition == 1 { String::new() } else { format!("#{repetition}") };
    let folder = match scenario.cases.len() {
        1 => format!("{}{suffix}", scenario.id()),
        _ => format!("{}/{}{suffix}", scenario.id(), case.name),
    };
    let memory = scenario.containers.iter().filter_map(|container| project.templates.get(&container.template));
    PlannedCase {
        id: format!("{}:{}{suffix}", scenario.id(), case.name),
        folder,
        scenario: index,
        case: case.clone(),
        memory_bytes: memory.map(|template| template.limits.memory).sum(),
    }
}

/// Filter of the command line, which chooses cases.
#[derive(Debug, PartialEq, Eq)]
enum Filter {
    Tag(String),
    Category(String),
    Scenario { id: String, case: Option<String> },
    Substring(String),
}

impl Filter {
    fn parse(text: &str, project: &Project) -> Result<Self, Error> {
        if let Some(tag) = text.strip_prefix("tag:") {
            return Self::parse_tag(tag, project);
        }
        let (word, case) = match text.rsplit_once(':') {
            Some((word, case)) => (word, Some(case.to_owned())),
            None => (text, None),
        };
        let word = word.trim_end_matches('/');
        let word = word.strip_prefix("./").unwrap_or(word);
        let word = word.strip_prefix("scenarios/").unwrap_or(word);
        if word == "scenarios" {
            return Ok(Self::Substring(String::new()));
        }
        let scenarios = &project.scenarios;
        let is_inside = |id: &str| word.strip_prefix(id).is_some_and(|file| file.starts_with('/'));
        let is_meant =
            |scenario: &&Scenario| scenario.name == word || scenario.id() == word || is_inside(&scenario.id());
        if let Some(scenario) = scenarios.iter().find(is_meant) {
            if let Some(case) = &case
                && !scenario.cases.iter().any(|known| known.name == *case)
            {
                let known: Vec<&str> = scenario.cases.iter().map(|known| known.name.as_str()).collect();
                return Err(Error::Usage(format!(
                    "{} has no case {case:?}: it has {}",
                    scenario.id(),
                    known.join(", ")
                )));
            }
            return Ok(Self::Scenario { id: scenario.id(), case });
        }
        if case.is_none() && scenarios.iter().any(|scenario| scenario.category == word) {
            return Ok(Self::Category(word.to_owned()));
        }
        if case.is_none() && !word.is_empty() && scenarios.iter().any(|scenario| scenario.id().contains(word)) {
            return Ok(Self::Substring(word.to_owned()));
        }
        let ids: Vec<String> = scenarios.iter().map(Scenario::id).collect();
        let known =
            scenarios.iter().flat_map(|s| [s.name.as_str(), s.category.as_str()]).chain(ids.iter().map(String::as_str));
        let hint = nearest(word, known).map_or_else(
            || "`cargo xtask e2e --list` shows them all".to_owned(),
            |near| format!("did you mean {near}?"),
        );
        Err(Error::Usage(format!("no scenario matches {text:?}: {hint}")))
    }

    fn parse_tag(tag: &str, project: &Project) -> Result<Self, Error> {
        let mut known: Vec<&str> = project.scenarios.iter().flat_map(|s| &s.tags).map(String::as_str).collect();
        known.sort_unstable();
        known.dedup();
        if known.contains(&tag) {
            return Ok(Self::Tag(tag.to_owned()));
        }
        let hint = nearest(tag, known.iter().copied())
            .map_or_else(|| format!("the tags are {}", known.join(", ")), |near| format!("did you mean tag:{near}?"));
        Err(Error::Usage(format!("no scenario has the tag {tag:?}: {hint}")))
    }

    /// Tells whether the filter names this case explicitly, as `scenario:case`.
    fn names(&self, scenario: &Scenario, case: &str) -> bool {
        matches!(self, Self::Scenario { case: Some(_), .. }) && self.matches(scenario, case)
    }

    fn matches(&self, scenario: &Scenario, case: &str) -> bool {
        match self {
            Self::Tag(tag) => scenario.tags.contains(tag),
            Self::Category(category) => scenario.category == *category,
            Self::Scenario { id, case: wanted } => {
                scenario.id() == *id && wanted.as_ref().is_none_or(|wanted| wanted == case)
            }
            Self::Substring(part) => scenario.id().contains(part.as_str()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::manifest::{DeclaredCoverage, DeclaredSecrets, Network};

    pub fn project() -> Project {
        let case =
            |name: &str| Case { name: name.into(), params: serde_json::Map::new(), on_request: name == "planted" };
        let scenario = |category: &str, name: &str, tags: &[&str], cases: &[&str]| Scenario {
            category: category.into(),
            name: name.into(),
            dir: "x".into(),
            description: "x".into(),
            tags: tags.iter().map(|tag| (*tag).into()).collect(),
            defects: Vec::new(),
            command: None,
            timeout: Duration::from_secs(1),
            containers: Vec::new(),
            cases: cases.iter().map(|name| case(name)).collect(),
            limits: Vec::new(),
            expects: Vec::new(),
            operations: BTreeMap::new(),
            pages: Vec::new(),
            chaos: None,
        };
        Project {
            root: "x".into(),
            name: "x".into(),
            container_order: Vec::new(),
            coverage: DeclaredCoverage::default(),
            secrets: DeclaredSecrets::default(),
            timeout: Duration::from_secs(1),
            network: Network { base: [10, 77, 0, 0].into() },
            first_id: Project::FIRST_ID,
            containers_dir: "x".into(),
            scenarios_dir: "x".into(),
            scenarios_package: "x".into(),
            templates: BTreeMap::new(),
            scenarios: vec![
                scenario("data_pipeline", "data_ingestion", &["slow"], &["small", "large"]),
                scenario("data_pipeline", "data_quality", &[], &["default", "planted"]),
                scenario("error_handling", "data_recovery", &["slow"], &["default"]),
            ],
        }
    }

    fn check(filters: &[&str], expected: &str) {
        let filters: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
        let shown = match Plan::make(&project(), &filters, Order { repeat: 1, shuffle_seed: None }) {
            Ok(plan) => plan.cases.iter().map(|case| case.id.clone()).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{filters:?}");
    }

    #[test]
    fn filters() {
        let all = "data_pipeline/data_ingestion:small data_pipeline/data_ingestion:large \
                   data_pipeline/data_quality:default error_handling/data_recovery:default";
        check(&[], all);
        check(&["scenarios/"], all);
        check(&["error_handling"], "error_handling/data_recovery:default");
        check(&["scenarios/error_handling/"], "error_handling/data_recovery:default");
        check(&["scenarios/data_pipeline/data_quality/main.rs"], "data_pipeline/data_quality:default");
        check(&["./scenarios/data_pipeline/data_quality/fixtures/a.csv"], "data_pipeline/data_quality:default");
        check(&["data_ingestion:large"], "data_pipeline/data_ingestion:large");
        check(&["data_pipeline/data_quality"], "data_pipeline/data_quality:default");
        check(&["data_quality:planted"], "data_pipeline/data_quality:planted");
        check(&["recover"], "error_handling/data_recovery:default");
        check(&["tag:slow", "data_quality"], all);
        check(&["data_ingesion"], "no scenario matches \"data_ingesion\": did you mean data_ingestion?");
        check(&["zzz"], "no scenario matches \"zzz\": `cargo xtask e2e --list` shows them all");
        check(&["tag:slov"], "no scenario has the tag \"slov\": did you mean tag:slow?");
        check(&["data_ingestion:big"], "data_pipeline/data_ingestion has no case \"big\": it has small, large");
    }

    #[test]
    fn a_shuffled_plan_is_the_same_for_the_same_seed() {
        let order = |seed| Plan::make(&project(), &[], Order { repeat: 5, shuffle_seed: Some(seed) }).unwrap();
        assert_eq!(order(1), order(1));
        assert_ne!(order(1).cases, order(2).cases);
        assert_eq!(order(1).cases.len(), 20);
    }

    #[test]
    fn an_earlier_runs_order_is_taken_over() {
        let order = Order { repeat: 2, shuffle_seed: None };
        let mut plan = Plan::make(&project(), &["data_quality".into(), "data_recovery".into()], order).unwrap();
        plan.order_as(&["error_handling/data_recovery:default#2", "data_pipeline/data_quality:default"]);
        let ids: Vec<&str> = plan.cases.iter().map(|case| case.id.rsplit('/').next().unwrap()).collect();
        assert_eq!(
            ids,
            ["data_recovery:default", "data_quality:default", "data_recovery:default#2", "data_quality:default#2"]
        );
    }

    #[test]
    fn repetitions_have_folders_of_their_own() {
        let plan = Plan::make(&project(), &["data_quality".into()], Order { repeat: 2, shuffle_seed: None }).unwrap();
        let folders: Vec<&str> = plan.cases.iter().map(|case| case.folder.as_str()).collect();
        assert_eq!(folders, ["data_pipeline/data_quality/default", "data_pipeline/data_quality/default#2"]);
    }
}
