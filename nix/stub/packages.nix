# Packages that have a name and no content.
lib: system:
let
  names = [
    "apparmor-parser"
    "cargo"
    "cargo-deny"
    "chromium"
    "clippy"
    "coreutils"
    "deadnix"
    "debian-archive-keyring"
    "e2fsprogs"
    "git"
    "gnutar"
    "iproute2"
    "iptables"
    "just"
    "libfaketime"
    "lxc"
    "makeWrapper"
    "mmdebstrap"
    "nftables"
    "nixfmt"
    "nixfmt-tree"
    "openssh"
    "python3"
    "rustc"
    "rustfmt"
    "shellcheck"
    "strace"
    "typos"
    "util-linux"
    "uv"
  ];

  # What is not text, a path or a package is left out of the derivation, but looked at.
  bare =
    name: attributes:
    derivation {
      inherit name system;
      builder = "/bin/sh";
      inputs = builtins.toJSON attributes;
    };
  build =
    attributes:
    bare "${attributes.pname}-${attributes.version}" (
      builtins.removeAttrs attributes [ "passthru" ]
      // {
        lock = builtins.readFile attributes.cargoLock.lockFile;
      }
    )
    // {
      inherit (attributes) version;
    }
    // attributes.passthru or { };

  packages = lib.genAttrs names (name: bare name { }) // {
    inherit lib;
    pkgs = packages;
    stdenv = {
      cc = bare "cc" { };
      hostPlatform = { inherit system; };
    };
    pkgsStatic.busybox = bare "busybox-static-whole" { };
    rustPlatform.buildRustPackage = build;

    buildEnv = { name, ... }@attributes: bare name attributes;
    mkShell = { packages }: bare "shell" { inherit packages; };
    runCommand =
      name: attributes: script:
      bare name (attributes // { inherit script; });
    writeShellApplication = { name, ... }@attributes: bare name attributes;

    # As nixpkgs: arguments by their names, and `override` to give others.
    callPackage =
      path: given:
      let
        function = import path;
        known = builtins.intersectAttrs (builtins.functionArgs function) packages;
        call = arguments: function (known // arguments);
      in
      call given // { override = others: call (given // others); };

    testers.runNixOSTest =
      { name, nodes, testScript }:
      bare "vm-test-${name}" {
        inherit testScript;
        machines = builtins.mapAttrs (
          _: machine:
          (lib.evalModules {
            modules = [ machine ];
            arguments = {
              pkgs = packages;
              utils.escapeSystemdExecArgs = lib.escapeShellArgs;
            };
          }).settings
        ) nodes;
      };
  };
in
packages
