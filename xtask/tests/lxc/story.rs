//! Command lines of the guides that are run, in an order that makes a story, and what each is to say.

/// A line of a guide that is run.
pub struct Told {
    pub line: &'static str,
    /// Pieces of it, and what stands in their place here. `{RUN}` is the name of the first run.
    pub instead: &'static [(&'static str, &'static str)],
    /// Exit code.
    pub status: i32,
    /// Part of what it says.
    pub says: &'static str,
    /// Step that the tutorial takes before it.
    pub before: Before,
}

/// Step of somebody who follows the tutorial.
#[derive(Clone, Copy)]
pub enum Before {
    Nothing,
    /// The scenario's program becomes the block of Python with this number.
    Program(usize),
    /// The scenario's manifest gets the block of TOML.
    Chaos,
    /// Line for the shell.
    Shell(&'static str),
}

pub const fn told(line: &'static str, says: &'static str) -> Told {
    Told { line, instead: &[], status: 0, says, before: Before::Nothing }
}

impl Told {
    pub const fn fails(self, status: i32) -> Self {
        Self { status, ..self }
    }

    pub const fn after(self, before: Before) -> Self {
        Self { before, ..self }
    }

    pub const fn instead(self, instead: &'static [(&'static str, &'static str)]) -> Self {
        Self { instead, ..self }
    }
}

/// Page with the first scenario, whose programs and lines are used as they stand there.
pub const TUTORIAL: &str = "docs/first-scenario.md";

/// The fenced blocks of this language in a text, each with a line break at its end.
pub fn blocks(text: &str, language: &str) -> Vec<String> {
    let opening = format!("\n```{language}\n");
    let begins = text.split(&opening).skip(1);
    begins.map(|rest| format!("{}\n", rest.split("\n```").next().unwrap_or_default())).collect()
}

/// Line with which the tutorial repairs its scenario.
pub const REPAIR: &str = "sed -i s/160_000/150_000/ scenarios/data_pipeline/first_query/main.py";

/// Commands in the order in which they are run.
pub const STORY: &[Told] = &[
    told("fault list", "net.delay delay_ms="),
    told(
        "new data_pipeline/first_query --language python --container app,db",
        "written: scenarios/data_pipeline/first_query/",
    ),
    told("e2e first_query", "PASSED  1 passed"),
    told("e2e first_query", "version = 150020").fails(1).after(Before::Program(0)),
    told("logs latest db --level warning", ""),
    told("logs --digest", "data_pipeline/first_query"),
    told("up first_query --ttl 2h", "by itself in 2h"),
    told("down", "is gone"),
    told("e2e first_query", "PASSED  1 passed").after(Before::Shell(REPAIR)),
    told("e2e first_query", "fault net.delay").after(Before::Program(1)),
    told("e2e first_query --chaos --seed 7", "PASSED  1 passed").after(Before::Chaos),
    told("e2e data_ingestion", "PASSED  2 passed"),
    told("e2e data_ingestion --progress plain", "data_pipeline/data_ingestion:small"),
    told("e2e data_ingestion --perf", "PASSED  2 passed"),
    told("logs", "refused: 3 rows"),
    told("logs latest db --level warning --since 30s", ""),
    told("logs --case data_ingestion --grep refused", "refused: 3 rows"),
    told("e2e --chaos", "PASSED"),
    told("e2e batch_processing --chaos --seed 7", "PASSED  1 passed"),
    told("e2e batch_processing --chaos-replay latest", "PASSED  1 passed"),
    told("fault try net.delay delay_ms=200", "net.delay delay_ms=200"),
    told("fault try net.delay delay_ms=200 jitter_ms=50", "net.delay delay_ms=200 jitter_ms=50"),
    told("up app db --ttl 2h", "by itself in 2h"),
    told("ps", "db"),
    told("exec db --user postgres -- psql -l", "user\n").instead(&[("postgres", "user"), ("psql -l", "id -un")]),
    told("cp app:/etc/nginx .", "").instead(&[("/etc/nginx", "/etc")]),
    told("cp ./site.conf app:/etc/nginx/site.conf --force", "")
        .instead(&[("./site.conf", "./etc/inittab"), ("/etc/nginx/site.conf", "/etc/inittab")]),
    told("pcap db --for 10s", "db.pcap").instead(&[("10s", "1s")]),
    told("fault inject net.delay delay_ms=200 --on db", "net.delay"),
    told("down", "is gone"),
    told("e2e data_ingestion --keep-containers --ttl 2h", "PASSED  2 passed"),
    told("clean", ""),
    told("report --open", "report.html"),
    told("report --compare 20261122-194813-4422 latest", "html").instead(&[("20261122-194813-4422", "{RUN}")]),
    told("runs", "{RUN}"),
    told("runs show latest", "PASSED"),
    told("runs durations latest", "2 cases recorded"),
    told("config show", "keep_containers"),
    told("runs prune --keep 20 --older 14d", ""),
    told("e2e --rerun-failed", "there is nothing to repeat"),
    told("bundle latest", ".tar.gz"),
    told("e2e --from-bundle target/e2e/bundles/RUN.tar.gz", "PASSED  2 passed")
        .instead(&[("RUN.tar.gz", "{LATEST}.tar.gz data_ingestion")]),
    told("e2e --root ../other-project", "PASSED  2 passed")
        .instead(&[("../other-project", "{PROJECT} data_ingestion")]),
    told("image build --locked", ""),
    told("judge-check xtask/tests/data/noise/raw.csv --random 60", "duet")
        .instead(&[("xtask/tests", "{TESTS}"), ("--random 60", "--random 0")]),
];
