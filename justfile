# A menu: every recipe is one line over `cargo xtask`, which has more options: `cargo xtask help`, `cargo xtask e2e --help`.
# What stands behind a recipe's name is handed on: `just e2e data_ingestion --repeat 3`.

set positional-arguments

# Show the recipes
[private]
default:
    @{{ just_executable() }} --list --unsorted

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

# Run what did not pass in the latest run again, with the same faults
[group('run')]
again *args:
    cargo xtask e2e --rerun-failed "$@"

# List the runs whose records lie here; also: just runs show latest, just runs rm RUN, just runs prune --keep 20
[group('run')]
runs *args:
    cargo xtask runs "$@"

# Make the page that explains a run, or two side by side: just report --open, just report --compare RUN_A RUN_B
[group('run')]
report *args:
    cargo xtask report "$@"

# Show the logs of all machines, merged by time, of a run or a live lab: just logs latest db, just logs --live db
[group('run')]
logs *args:
    cargo xtask logs "$@"

# Join the records of shards into one run, with one answer: just merge shard-1 shard-2
[group('run')]
merge *args:
    cargo xtask merge "$@"

# Pack a run into one file; `cargo xtask e2e --from-bundle FILE` repeats it elsewhere
[group('run')]
bundle *args:
    cargo xtask bundle "$@"

# Try the known defects alone: just defects, just defects quoting, just defects --set app.mancer=../mancer
[group('run')]
defects *args:
    cargo xtask defects "$@"

# Break the product on purpose, and see whether the suite notices: just mutants, just mutants --sample 10, just mutants --list
[group('break')]
mutants *args:
    cargo xtask mutants "$@"

# Run scenarios with faults from a new seed: just chaos, just chaos chaos_gauntlet --seed 7
[group('break')]
chaos *args:
    cargo xtask e2e --chaos "$@"

# Find the few faults that make a failed case fail: just shrink, just shrink latest --case chaos_gauntlet:planted
[group('break')]
shrink *args:
    cargo xtask shrink "$@"

# List faults, try one, or break a kept lab: just fault list, just fault try net.delay delay_ms=200
[group('break')]
fault *args:
    cargo xtask fault "$@"

# Run scenarios and sample their resource usage 10 times a second: just perf data_ingestion
[group('measure')]
perf *args:
    cargo xtask e2e --perf "$@"

# Compare with the machines of another revision, pair by pair: just duet v1.2 data_pipeline
[group('measure')]
duet revision *args:
    cargo xtask e2e --baseline-ref "$@"

# Compare with committed baselines: just compare data_pipeline
[group('measure')]
compare *args:
    cargo xtask e2e --baseline-compare "$@"

# Measure, and write baselines to commit: just baseline-update data_pipeline
[group('measure')]
baseline-update *args:
    cargo xtask baseline-update "$@"

# Look at committed baselines: just baseline list, just baseline prune
[group('measure')]
baseline *args:
    cargo xtask baseline "$@"

# Measure the error rates of the verdict rules: just judge-check xtask/tests/data/noise/raw.csv
[group('measure')]
judge-check *files:
    cargo xtask judge-check "$@"

# Start a kept lab: just up app db, just up data_ingestion --ttl 2h
[group('lab')]
up *args:
    cargo xtask up "$@"

# Show the labs and containers that exist now
[group('lab')]
ps:
    cargo xtask ps

# Open a shell in a container of a lab, or run a command there: just shell db, just shell db -- hostname
[group('lab')]
shell container *command:
    cargo xtask shell "$@"

# Run a program in a container of a live lab: just exec db --user postgres -- psql -l
[group('lab')]
exec *args:
    cargo xtask exec "$@"

# Copy a file or a folder into a container, or out of one: just cp app:/etc/nginx .
[group('lab')]
cp *args:
    cargo xtask cp "$@"

# Make a port of a container reachable at this host's loopback: just forward app:80
[group('lab')]
forward *args:
    cargo xtask forward "$@"

# Write a container's packets into a file for Wireshark: just pcap db --for 10s
[group('lab')]
pcap *args:
    cargo xtask pcap "$@"

# Say how much longer a lab stays: just ttl 30m
[group('lab')]
ttl *args:
    cargo xtask ttl "$@"

# Take a kept lab down: just down, just down --slot 2, just down --all
[group('lab')]
down *args:
    cargo xtask down "$@"

# Remove kept labs, leftovers of killed runs and old container logs
[group('lab')]
clean *args:
    cargo xtask clean "$@"

# Show the templates with their layers
[group('image')]
images:
    cargo xtask image list

# Build the layers that are missing, of some templates or all, and write containers/lock.json
[group('image')]
image-build *args:
    cargo xtask image build "$@"

# Remove the layers that no template of this project uses
[group('image')]
image-prune:
    cargo xtask image prune

# Make a scenario that runs and passes at once: just new data_pipeline/first_query, --language python, --container db
[group('project')]
new *args:
    cargo xtask new "$@"

# Make a project for another product, which passes as it is: just init ../shop
[group('project')]
init *args:
    cargo xtask init "$@"

# Build an archive and a Debian package of the engine, to install it elsewhere
[group('project')]
dist *args:
    cargo xtask dist "$@"

# Check everything, or a part: just test, just test quick, just test lxc runs::a_good_run
[group('project')]
test *args:
    cargo xtask test "$@"

# Check what CI checks on a machine that may lack something: installs that first
[group('project')]
ci:
    cargo xtask test --setup

# Check this machine, and print help for each problem
[group('machine')]
doctor:
    cargo xtask doctor

# Install what doctor misses
[group('machine')]
setup *args:
    cargo xtask setup "$@"

# Show what flags, environment and e2e.toml set, and where each value came from
[group('machine')]
config *args:
    cargo xtask config show "$@"
