{
  description = "A nixpkgs of names only: with it flake.nix is evaluated where there is no network. It builds nothing.";

  outputs =
    { self }:
    let
      lib = import ./lib.nix;
    in
    {
      lib = lib // {
        evalModules = import ./modules.nix lib;
      };
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
        import ./packages.nix self.lib
      );
    };
}
