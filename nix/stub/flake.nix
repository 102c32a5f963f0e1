{
  description = "A nixpkgs of names only: with it flake.nix is evaluated where there is no network. It builds nothing.";

  outputs =
    { self }:
    let
      names = [
        "cargo"
        "chromium"
        "clippy"
        "debian-archive-keyring"
        "e2fsprogs"
        "git"
        "gnutar"
        "iproute2"
        "iptables"
        "just"
        "lxc"
        "mmdebstrap"
        "nftables"
        "openssh"
        "python3"
        "rustc"
        "rustfmt"
        "strace"
        "util-linux"
        "uv"
      ];
      genAttrs =
        keys: make:
        builtins.listToAttrs (
          map (name: {
            inherit name;
            value = make name;
          }) keys
        );
      packages =
        system:
        let
          bare =
            name: attributes:
            derivation (
              {
                inherit name system;
                builder = "/bin/sh";
              }
              // attributes
            );
          named = genAttrs names (name: bare name { });
        in
        named
        // {
          pkgsStatic.busybox = bare "busybox-static-whole" { };
          # A list of packages becomes a list of paths in the derivation: each of them is evaluated.
          mkShell = { packages }: bare "shell" { inherit packages; };
          runCommand = name: attributes: script: bare name (attributes // { inherit script; });
        };
    in
    {
      lib = { inherit genAttrs; };
      legacyPackages = genAttrs [ "x86_64-linux" "aarch64-linux" ] packages;
    };
}
