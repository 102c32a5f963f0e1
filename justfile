# Every recipe is one line over `cargo xtask`, which has more options: `cargo xtask help`, `cargo xtask e2e --help`.

set positional-arguments

# Show the recipes
[private]
default:
    @just --list

# Run scenarios on fresh labs: just e2e, just e2e data_ingestion, just e2e tag:data_pipeline --repeat 3
[group('run')]
e2e *args:
    cargo xtask e2e "$@"

# Show the scenarios, or those that match
[group('run')]
list *filters:
    cargo xtask e2e --list "$@"

# Show what a run would do, and touch nothing
[group('run')]
plan *filters:
    cargo xtask e2e --dry-run "$@"

# Make a scenario that runs and passes at once: just new data_pipeline/first_query, --language python, --container db
[group('run')]
new *args:
    cargo xtask new "$@"

# Check everything: format, lints, unit tests, tests on real containers, the scenarios
[group('run')]
test *args:
    cargo xtask test "$@"

# Show how often verdicts on timings are wrong: just judge-check xtask/tests/data/noise/raw.csv
[group('run')]
judge-check *files:
    cargo xtask judge-check "$@"

# Say what this machine has and lacks, and how to mend it
[group('machine')]
doctor:
    cargo xtask doctor

# Install what doctor misses
[group('machine')]
setup *args:
    cargo xtask setup "$@"

# Show what flags, environment and e2e.toml set, and where each value came from
[group('machine')]
config:
    cargo xtask config show

# Start a lab that stays: just up app db, just up data_ingestion --ttl 2h
[group('lab')]
up *args:
    cargo xtask up "$@"

# Take a kept lab down: just down, just down --slot 2, just down --all
[group('lab')]
down *args:
    cargo xtask down "$@"

# List the runs whose records lie here; also: just runs show RUN, just runs rm RUN, just runs prune --keep 20
[group('run')]
runs *args:
    cargo xtask runs "$@"

# Pack a run into one file, which `cargo xtask e2e --from-bundle FILE` repeats elsewhere
[group('run')]
bundle *args:
    cargo xtask bundle "$@"

# Show the labs and containers that exist now
[group('lab')]
ps:
    cargo xtask ps

# Run a program in a container of a live lab: just exec db --user postgres -- psql -l
[group('lab')]
exec *args:
    cargo xtask exec "$@"

# Make a port of a container reachable at this host's loopback: just forward app:80
[group('lab')]
forward *args:
    cargo xtask forward "$@"

# Open a shell in a container of a kept lab, or run a command there: just shell db, just shell db -- hostname
[group('lab')]
shell container *command:
    cargo xtask shell "$@"

# Show what all machines logged, by time, in a run or a live lab: just logs latest db, just logs --live db
[group('lab')]
logs *args:
    cargo xtask logs "$@"

# Make the page that explains a run, or two side by side: just report --open, just report --compare RUN_A RUN_B
[group('run')]
report *args:
    cargo xtask report "$@"

# Remove kept labs, leftovers of killed runs and old container logs
[group('lab')]
clean:
    cargo xtask clean

# Show the templates with their layers
[group('image')]
images:
    cargo xtask image list

# Build the layers that are missing, of some templates or all, and write containers/lock.json
[group('image')]
image-build *templates:
    cargo xtask image build "$@"

# Remove the layers that no template of this project uses
[group('image')]
image-prune:
    cargo xtask image prune
