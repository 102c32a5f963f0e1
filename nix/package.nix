# The engine as a program of its own, `mancer-e2e`, with the programs that it uses on its host.
{
  lib,
  rustPlatform,
  makeWrapper,
  buildEnv,
  pkgs,
  # What the engine has no pictures without, and what makes this package large.
  withBrowser ? true,
}:
let
  tools = import ./tools.nix pkgs;
  optional = if withBrowser then tools.optional else removeAttrs tools.optional [ "chromium" ];

  # One folder for all: the engine finds the keyring in `share` beside the `bin` of its PATH.
  environment = buildEnv {
    name = "mancer-e2e-tools";
    paths = lib.unique (lib.attrValues tools.required ++ lib.attrValues optional);
    pathsToLink = [
      "/bin"
      "/share/keyrings"
    ];
  };
in
rustPlatform.buildRustPackage {
  pname = "mancer-e2e";
  inherit ((lib.importTOML ../Cargo.toml).workspace.package) version;
  src = import ./source.nix lib;
  cargoLock.lockFile = ../Cargo.lock;

  cargoBuildFlags = [ "--package=xtask" ];
  # The tests are a check of their own: building the engine for use takes none of their time.
  doCheck = false;

  nativeBuildInputs = [ makeWrapper ];
  postInstall = ''
    mv $out/bin/xtask $out/bin/mancer-e2e
    wrapProgram $out/bin/mancer-e2e --prefix PATH : ${environment}/bin
  '';

  passthru = {
    tools = environment;
  };

  meta = {
    description = "Multi-machine end-to-end tests on LXC containers";
    license = lib.licenses.mit;
    mainProgram = "mancer-e2e";
    platforms = lib.platforms.linux;
  };
}
