# The programs and files that the engine uses on its host, each under the name that `cargo xtask doctor` gives it;
# `xtask/tests/tidy.rs` holds these names to doctor's own list. One is missing: sudo, which nothing in a store can be.
pkgs:
let
  # Alone in its folder: the whole package would put its own mount, ip and tar before the real ones.
  staticBusybox = pkgs.runCommand "busybox-static" { } ''
    mkdir -p $out/bin
    ln -s ${pkgs.pkgsStatic.busybox}/bin/busybox $out/bin/busybox
  '';
in
{
  required = {
    "lxc-start" = pkgs.lxc;
    "lxc-attach" = pkgs.lxc;
    "lxc-stop" = pkgs.lxc;
    "lxc-info" = pkgs.lxc;
    "lxc-freeze" = pkgs.lxc;
    "lxc-unfreeze" = pkgs.lxc;
    "unshare" = pkgs.util-linux;
    "nsenter" = pkgs.util-linux;
    "setpriv" = pkgs.util-linux;
    "mount" = pkgs.util-linux;
    "umount" = pkgs.util-linux;
    "losetup" = pkgs.util-linux;
    "mkfs.ext4" = pkgs.e2fsprogs;
    "e2fsck" = pkgs.e2fsprogs;
    "busybox" = staticBusybox;
    "mmdebstrap" = pkgs.mmdebstrap;
    "debian-archive-keyring" = pkgs.debian-archive-keyring;
    "tar" = pkgs.gnutar;
    "python3" = pkgs.python3;
    "pip" = pkgs.uv;
    "slirp4netns" = pkgs.slirp4netns;
    "ssh-keygen" = pkgs.openssh;
    "ip" = pkgs.iproute2;
    "tc" = pkgs.iproute2;
    "nft" = pkgs.nftables;
    "apparmor_parser" = pkgs.apparmor-parser;
  };

  optional = {
    "iptables" = pkgs.iptables;
    "strace" = pkgs.strace;
    "chromium" = pkgs.chromium;
  };
}
