# The functions of nixpkgs' lib that the flake uses, in a few words each.
let
  check = name: accepts: { inherit name accepts; };
  isText = value: builtins.isString value || builtins.isPath value;
in
rec {
  attrValues = builtins.attrValues;
  concatMap = builtins.concatMap;
  concatStringsSep = builtins.concatStringsSep;

  genAttrs =
    keys: make:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = make name;
      }) keys
    );

  unique = builtins.foldl' (
    seen: one: if builtins.elem one seen then seen else seen ++ [ one ]
  ) [ ];

  hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;

  escapeShellArgs = words: concatStringsSep " " (map (word: "'${word}'") words);

  importTOML = path: builtins.fromTOML (builtins.readFile path);

  # Every path must exist. A source has the listed paths, what lies below them, and the folders on the way to them.
  fileset = {
    unions = paths: paths;
    toSource =
      { root, fileset }:
      let
        isWithin = one: other: one == other || hasPrefix "${other}/" one;
        listed = map toString fileset;
      in
      assert builtins.all builtins.pathExists fileset;
      builtins.path {
        name = "source";
        path = root;
        filter = path: _: builtins.any (one: isWithin path one || isWithin one path) listed;
      };
  };

  licenses.mit = "MIT";
  platforms.linux = [ "linux" ];

  mkOption = attributes: attributes // { _type = "option"; };
  mkEnableOption =
    what:
    mkOption {
      type = types.bool;
      default = false;
      description = "Whether to enable ${what}.";
    };
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkDefault = content: {
    _type = "default";
    inherit content;
  };
  literalExpression = text: { inherit text; };

  types = {
    bool = check "a boolean" builtins.isBool;
    str = check "a text" builtins.isString;
    path = check "an absolute path" (
      value: isText value && builtins.substring 0 1 (toString value) == "/"
    );
    package = check "a package" (value: value.type or null == "derivation");
    ints.positive = check "a positive number" (value: builtins.isInt value && value > 0);
    listOf =
      type:
      check "a list, each ${type.name}" (
        value: builtins.isList value && builtins.all type.accepts value
      );
    nonEmptyListOf =
      type:
      check "a list with something in it, each ${type.name}" (
        value: value != [ ] && (types.listOf type).accepts value
      );
  };
}
