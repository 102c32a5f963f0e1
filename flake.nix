{
  description = "mancer-e2e: multi-machine end-to-end tests on LXC containers";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEachSystem = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      # Everything that `cargo xtask doctor` requires of a machine. The kernel, root and sudo are the machine's own.
      devShells = forEachSystem (
        pkgs:
        let
          # Alone in its folder: the whole package would put its own mount, ip and tar before the real ones.
          staticBusybox = pkgs.runCommand "busybox-static" { } ''
            mkdir -p $out/bin
            ln -s ${pkgs.pkgsStatic.busybox}/bin/busybox $out/bin/busybox
          '';
        in
        {
          default = pkgs.mkShell {
            packages = [
              # to build
              pkgs.cargo
              pkgs.clippy
              pkgs.rustc
              pkgs.rustfmt
              pkgs.just
              pkgs.git

              # for labs
              pkgs.lxc
              pkgs.e2fsprogs
              pkgs.iproute2
              pkgs.nftables
              pkgs.util-linux

              # for images
              pkgs.debian-archive-keyring
              pkgs.gnutar
              pkgs.mmdebstrap
              pkgs.openssh
              pkgs.python3
              pkgs.uv
              staticBusybox

              # what doctor calls optional
              pkgs.chromium
              pkgs.iptables
              pkgs.strace
            ];
          };
        }
      );
    };
}
