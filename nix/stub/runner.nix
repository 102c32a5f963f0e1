# What `nixosModules.runner` makes of a host with a nightly run, and that it refuses what it should.
let
  lib = import ./lib.nix;
  evalModules = import ./modules.nix lib;
  packages = import ./packages.nix lib "x86_64-linux";
  host =
    settings:
    evalModules {
      modules = [
        ../runner.nix
        { services.mancer-e2e = settings; }
      ];
      arguments = {
        pkgs = packages;
        utils.escapeSystemdExecArgs = lib.escapeShellArgs;
      };
    };
  nightly = {
    enable = true;
    package = packages.git;
    nightly.enable = true;
    nightly.checkout = "/srv/project";
  };

  of = option: evaluated: builtins.filter (setting: setting.option == option) evaluated.settings;
  service = evaluated: (builtins.head (of "systemd.services" evaluated)).value.mancer-e2e-nightly;
  refused = settings: !(builtins.tryEval (builtins.deepSeq (host settings).settings true)).success;
  get = builtins.foldl' (attributes: name: attributes.${name});
  evaluated = host nightly;
in
assert (host { enable = false; }).settings == [ ];
assert (service evaluated).serviceConfig.WorkingDirectory == "/srv/project";
assert builtins.elem "br_netfilter" (builtins.head (of "boot.kernelModules" evaluated)).value;
assert (builtins.head (of "users.users" evaluated)).value.root.subUidRanges == [
  {
    startUid = 100000;
    count = 65536;
  }
];
# No checkout; a folder that is no path; no command at all; an option that nobody declares.
assert refused (nightly // { nightly.enable = true; });
assert refused (nightly // { nightly = nightly.nightly // { checkout = "srv"; }; });
assert refused (nightly // { nightly = nightly.nightly // { command = [ ]; }; });
assert refused (nightly // { nightly = nightly.nightly // { commands = [ "x" ]; }; });
map (
  path:
  let
    option = get evaluated.options path;
    name = builtins.concatStringsSep "." path;
  in
  assert option.description != "" || throw "${name} has no description";
  "${name}: ${option.type.name}"
) evaluated.paths
