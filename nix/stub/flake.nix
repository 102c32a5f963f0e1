{
  description = "A small stand-in for nixpkgs: with it flake.nix is evaluated, and its package built, where there is no network.";

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
