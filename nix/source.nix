# What Cargo builds from: a change to anything else builds nothing anew.
lib:
lib.fileset.toSource {
  root = ../.;
  fileset = lib.fileset.unions [
    ../.cargo
    ../Cargo.lock
    ../Cargo.toml
    ../README.md
    ../clippy.toml
    ../containers
    ../docs
    ../rustfmt.toml
    ../scenarios
    ../xtask
  ];
}
