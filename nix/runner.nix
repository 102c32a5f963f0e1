# A NixOS host that runs end-to-end tests: what labs need of a machine, and a run each night.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  cfg = config.services.mancer-e2e;
  inherit (lib) mkOption types;
in
{
  options.services.mancer-e2e = {
    enable = lib.mkEnableOption "what labs of mancer-e2e need: LXC, kernel modules and ids";

    package = mkOption {
      type = types.package;
      description = "The engine. The flake's module sets it to the flake's own.";
    };

    ids.first = mkOption {
      type = types.ints.positive;
      default = 100000;
      description = "What root in a container is outside: `ids.first` in the project's e2e.toml.";
    };

    ids.count = mkOption {
      type = types.ints.positive;
      default = 65536;
      description = "How many ids a container has: `ids.count` in the project's e2e.toml.";
    };

    nightly = {
      enable = lib.mkEnableOption "a run of the tests at a fixed time";

      checkout = mkOption {
        type = types.path;
        example = "/srv/mancer-e2e";
        description = ''
          The folder with the project's e2e.toml. The command runs in it, and writes its records to `target/e2e` there.
        '';
      };

      command = mkOption {
        type = types.nonEmptyListOf types.str;
        default = [
          "mancer-e2e"
          "e2e"
          "--chaos"
        ];
        example = [
          "cargo"
          "xtask"
          "e2e"
          "--performance-monitoring"
        ];
        description = "The program and its arguments, none of which a shell looks at.";
      };

      startAt = mkOption {
        type = types.str;
        default = "02:30";
        example = "Mon..Fri 23:00";
        description = ''
          When it runs, as systemd.time(7) writes calendar events. A time that was missed is made up for.
        '';
      };

      deadline = mkOption {
        type = types.str;
        default = "6h";
        description = ''
          How long it may take, as systemd.time(7) writes spans. Past that the run is stopped, and its labs are removed.
        '';
      };

      user = mkOption {
        type = types.str;
        default = "root";
        description = ''
          Whose checkout it is. The command runs with this user's rights; the engine asks for root by sudo, so any user
          but root needs it without a password.
        '';
      };

      packages = mkOption {
        type = types.listOf types.package;
        default = [
          pkgs.cargo
          pkgs.git
          pkgs.rustc
          pkgs.stdenv.cc
        ];
        defaultText = lib.literalExpression "[ pkgs.cargo pkgs.git pkgs.rustc pkgs.stdenv.cc ]";
        description = ''
          What the command finds in its PATH, beside the engine: these build scenarios in Rust.
        '';
      };
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];

    virtualisation.lxc.enable = true;

    # A service that has no rights to load modules finds them there.
    boot.kernelModules = [
      "br_netfilter"
      "bridge"
      "loop"
      "nf_tables"
      "nfnetlink_queue"
      "overlay"
      "veth"
      "xt_NFQUEUE"
      "xt_physdev"
    ];

    # br_netfilter would lead the host's own bridges through its firewall. A lab sets it in its own namespace.
    boot.kernel.sysctl = {
      "net.bridge.bridge-nf-call-arptables" = lib.mkDefault 0;
      "net.bridge.bridge-nf-call-ip6tables" = lib.mkDefault 0;
      "net.bridge.bridge-nf-call-iptables" = lib.mkDefault 0;
    };

    users.users.root = {
      subUidRanges = [
        {
          startUid = cfg.ids.first;
          count = cfg.ids.count;
        }
      ];
      subGidRanges = [
        {
          startGid = cfg.ids.first;
          count = cfg.ids.count;
        }
      ];
    };

    systemd.services.mancer-e2e-nightly = lib.mkIf cfg.nightly.enable {
      description = "End-to-end tests of ${cfg.nightly.checkout}";
      startAt = cfg.nightly.startAt;
      path = [ cfg.package ] ++ cfg.nightly.packages ++ [ "/run/wrappers" ];
      serviceConfig = {
        Type = "oneshot";
        ExecStart = utils.escapeSystemdExecArgs (
          [ "${pkgs.coreutils}/bin/env" ] ++ cfg.nightly.command
        );
        WorkingDirectory = cfg.nightly.checkout;
        User = cfg.nightly.user;
        TimeoutStartSec = cfg.nightly.deadline;
        # The engine is told first and takes its labs down; its helpers are not killed meanwhile.
        KillMode = "mixed";
        TimeoutStopSec = "2min";
      };
    };

    systemd.timers.mancer-e2e-nightly = lib.mkIf cfg.nightly.enable {
      timerConfig.Persistent = true;
    };
  };
}
