{
  description = "mancer-e2e: multi-machine end-to-end tests on LXC containers";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEachSystem = make: lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
      engineOf = pkgs: self.packages.${pkgs.stdenv.hostPlatform.system}.default;
    in
    {
      # Everything that `cargo xtask doctor` looks for on a machine, required and optional. The kernel, root and sudo are
      # the machine's own.
      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShell {
          packages = [
            (engineOf pkgs).tools

            # to build
            pkgs.cargo
            pkgs.clippy
            pkgs.git
            pkgs.just
            pkgs.rustc
            pkgs.rustfmt

            # to check what is no Rust
            pkgs.cargo-deny
            pkgs.deadnix
            pkgs.nixfmt
            pkgs.shellcheck
            pkgs.typos

            # what faults of clocks put into images, to see on the host what it does
            pkgs.libfaketime
          ];
        };
      });

      packages = forEachSystem (pkgs: {
        default = pkgs.callPackage ./nix/package.nix { };
      });

      # For use in a checkout: with what builds its scenarios.
      apps = forEachSystem (
        pkgs:
        let
          app =
            verb: description:
            let
              name = lib.concatStringsSep "-" ([ "mancer-e2e" ] ++ verb);
              program = pkgs.writeShellApplication {
                inherit name;
                runtimeInputs = [
                  (engineOf pkgs)
                  pkgs.cargo
                  pkgs.git
                  pkgs.rustc
                  pkgs.stdenv.cc
                ];
                text = ''
                  exec mancer-e2e ${lib.escapeShellArgs verb} "$@"
                '';
              };
            in
            {
              type = "app";
              program = "${program}/bin/${name}";
              meta = { inherit description; };
            };
        in
        {
          default = app [ ] "Any verb of the engine";
          e2e = app [ "e2e" ] "Run scenarios on fresh labs of containers";
          baseline-update = app [ "baseline-update" ] "Measure, and write baselines to commit";
          doctor = app [ "doctor" ] "Check this machine, and print help for each problem";
        }
      );

      checks = forEachSystem (
        pkgs:
        import ./nix/checks.nix {
          inherit pkgs;
          engine = engineOf pkgs;
          inherit (self.nixosModules) runner;
        }
      );

      formatter = forEachSystem (pkgs: pkgs.nixfmt-tree);

      nixosModules.runner =
        { pkgs, ... }:
        {
          imports = [ ./nix/runner.nix ];
          services.mancer-e2e.package = lib.mkDefault (engineOf pkgs);
        };

      overlays.default = final: _prev: {
        mancer-e2e = final.callPackage ./nix/package.nix { };
      };
    };
}
