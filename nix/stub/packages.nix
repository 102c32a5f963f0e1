# Packages of the host: each links to those programs of it that `nix/tools.nix` takes from the package. `nix/check build`
# gives the variables that are read here; without them everything evaluates, and nothing can be built.
lib: system:
let
  # The host's programs come last in a builder's PATH, and in no other place.
  hostPath = builtins.getEnv "NIX_STUB_PATH";
  script =
    name: attributes: text:
    derivation (
      {
        inherit name system;
        builder = "/bin/bash";
        args = [
          "-euc"
          # Bash ends last: in its place the last command would close its streams before it ends, and Nix kills a builder
          # whose streams are closed.
          "${text}\n:"
        ];
        PATH = hostPath;
      }
      // attributes
    );
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
    "slirp4netns"
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
  # Phases of nixpkgs as far as they are used, by the host's compiler, from the crates that its Cargo has.
  cargo =
    attributes:
    script "${attributes.pname}-${attributes.version}" {
      inherit (attributes) src;
      CARGO_HOME = builtins.getEnv "NIX_STUB_CARGO_HOME";
      CARGO_TARGET_DIR = builtins.getEnv "NIX_STUB_TARGET";
      CARGO_INCREMENTAL = "0";
      CARGO_PROFILE_DEV_DEBUG = "none";
      lock = builtins.readFile attributes.cargoLock.lockFile;
    } ''
      wrapProgram() {
          mv "$1" "$(dirname "$1")/.$(basename "$1")-wrapped"
          printf '#!/bin/bash\nexport PATH=%s:$PATH\nexec -a "$0" %s "$@"\n' \
              "$5" "$(dirname "$1")/.$(basename "$1")-wrapped" > "$1"
          chmod +x "$1"
      }
      cp -r "$src" source && chmod -R u+w source && cd source
      ${attributes.buildPhase or ''
        cargo build --frozen --profile ${builtins.getEnv "NIX_STUB_PROFILE"} ${
          toString (attributes.cargoBuildFlags or [ ])
        }
      ''}
      ${attributes.installPhase or ''
        mkdir -p "$out/bin"
        find "$CARGO_TARGET_DIR/${builtins.getEnv "NIX_STUB_FOLDER"}" -maxdepth 1 -type f -executable \
            -exec cp -t "$out/bin" {} +
      ''}
      ${attributes.postInstall or ""}
    ''
    // {
      inherit (attributes) version;
    }
    // attributes.passthru or { };

  # The names of the programs that are wanted of a package. `nix/check` puts the list of tools beside this file.
  wanted =
    package:
    let
      tools = import ./tools.nix (
        lib.genAttrs names (name: name)
        // {
          runCommand = _: _: _: null;
          pkgsStatic.busybox = null;
        }
      );
      all = tools.required // tools.optional;
    in
    builtins.filter (program: all.${program} == package) (builtins.attrNames all);

  ofHost =
    package:
    script package { } ''
      mkdir -p "$out/bin" "$out/share"
      for program in ${toString (wanted package)}; do
          ! found=$(command -v "$program") || ln -s "$found" "$out/bin/$program"
      done
      if [ ${package} = debian-archive-keyring ]; then ln -s /usr/share/keyrings "$out/share/keyrings"; fi
    '';

  packages = lib.genAttrs names ofHost // {
    inherit lib;
    pkgs = packages;
    stdenv = {
      cc = bare "cc" { };
      hostPlatform = { inherit system; };
    };
    pkgsStatic.busybox = script "busybox-static-whole" { } ''
      mkdir -p "$out/bin" && ln -s "$(command -v busybox)" "$out/bin/busybox"
    '';
    rustPlatform.buildRustPackage = cargo;

    buildEnv =
      {
        name,
        paths,
        pathsToLink,
      }:
      script name { } ''
        shopt -s nullglob # of some packages the host has no program
        for path in ${toString paths}; do
            for folder in ${toString pathsToLink}; do
                mkdir -p "$out$folder"
                for file in "$path$folder"/*; do ln -s "$file" "$out$folder"; done
            done
        done
      '';
    mkShell = { packages }: bare "shell" { inherit packages; };
    runCommand =
      name: attributes: text:
      script name { inputs = builtins.toJSON attributes; } text;
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
