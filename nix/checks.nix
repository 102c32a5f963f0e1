# What `nix flake check` builds. The last one is a virtual machine, because labs need root and a kernel of their own.
{
  pkgs,
  engine,
  runner,
}:
let
  inherit (pkgs) lib;
  source = import ./source.nix lib;

  # A build of the workspace by Cargo, from the crates of Cargo.lock alone.
  cargo =
    name: attributes:
    pkgs.rustPlatform.buildRustPackage (
      {
        pname = "mancer-e2e-${name}";
        inherit (engine) version;
        src = source;
        cargoLock.lockFile = ../Cargo.lock;
        doCheck = false;
      }
      // attributes
    );

  # The programs of the engine's own test project: a run in the machine compiles nothing.
  scenarios = cargo "scenarios" { cargoBuildFlags = [ "--package=selftest-scenarios" ]; };
in
{
  fmt =
    pkgs.runCommand "mancer-e2e-fmt"
      {
        nativeBuildInputs = [
          pkgs.cargo
          pkgs.rustfmt
        ];
      }
      ''
        export CARGO_HOME=$TMPDIR/cargo
        cd ${source}
        cargo fmt --all --check
        touch $out
      '';

  clippy = cargo "clippy" {
    nativeBuildInputs = [ pkgs.clippy ];
    buildPhase = ''
      cargo clippy --offline --workspace --all-targets -- --deny warnings
    '';
    installPhase = ''
      touch $out
    '';
  };

  # Those that need neither root nor containers; `e2e` stands for the others.
  unit-tests = cargo "unit-tests" {
    nativeBuildInputs = [
      pkgs.git
      pkgs.python3
    ];
    buildPhase = ''
      cargo test --offline --workspace --lib
    '';
    installPhase = ''
      touch $out
    '';
  };

  e2e = pkgs.testers.runNixOSTest {
    name = "mancer-e2e";

    nodes.machine = {
      imports = [ runner ];
      services.mancer-e2e = {
        enable = true;
        package = engine.override { withBrowser = false; };
      };
      virtualisation = {
        cores = 2;
        memorySize = 3072;
        diskSize = 4096;
      };
    };

    # The scenarios on the template of busybox alone: the machine has no network, and they need none.
    testScript = ''
      project = "/root/checkout/xtask/tests/project"
      machine.wait_for_unit("multi-user.target")
      machine.succeed("cp -r ${source} /root/checkout && chmod -R u+w /root/checkout")
      print(machine.execute(f"mancer-e2e --root {project} doctor")[1])
      try:
          machine.succeed(
              f"cd {project} && mancer-e2e e2e tag:smoke --binaries ${scenarios}/bin 2>&1",
              timeout=900,
          )
      finally:
          machine.copy_from_machine(f"{project}/target/e2e")
      assert machine.succeed("lxc-ls").strip() == "", "a container is left"
    '';
  };
}
