# A small evaluation of modules: imports, options with defaults, mkIf, mkDefault, types, and definitions of options that
# NixOS has. Two definitions of one option are not merged but refused.
lib:
let
  # The options of NixOS that modules may set without declaring them. Whatever lies below one of them is taken as it is.
  ofNixos = [
    "boot.kernel.sysctl"
    "boot.kernelModules"
    "environment.systemPackages"
    "systemd.services"
    "systemd.timers"
    "users.users"
    "virtualisation.cores"
    "virtualisation.diskSize"
    "virtualisation.lxc.enable"
    "virtualisation.memorySize"
  ];

  isProperty = value: value._type or null == "if" || value._type or null == "default";
  show = builtins.concatStringsSep ".";
  getAt = builtins.foldl' (attributes: name: attributes.${name});

  # Both attribute sets, down to what is no attribute set or ends a path.
  merge =
    ends: a: b:
    a
    // builtins.mapAttrs (
      name: value: if a ? ${name} && !ends value then merge ends a.${name} value else value
    ) b;

  # The definitions of one option in a module's settings. A condition is asked only where the option is defined.
  definitionsAt =
    path: settings:
    if isProperty settings then
      map (
        definition:
        if settings._type == "if" then
          definition // { holds = settings.condition && definition.holds; }
        else
          definition // { isDefault = true; }
      ) (definitionsAt path settings.content)
    else if path == [ ] then
      [
        {
          value = settings;
          holds = true;
          isDefault = false;
        }
      ]
    else if builtins.isAttrs settings && settings ? ${builtins.head path} then
      definitionsAt (builtins.tail path) settings.${builtins.head path}
    else
      [ ];

  # The paths of all that is set, where conditions hold.
  pathsOf =
    declared: path: settings:
    if isProperty settings then
      if settings._type == "if" && !settings.condition then
        [ ]
      else
        pathsOf declared path settings.content
    else if builtins.elem (show path) (declared ++ ofNixos) then
      [ path ]
    else if !builtins.isAttrs settings || settings ? outPath then
      [ path ]
    else
      builtins.concatLists (
        builtins.attrValues (builtins.mapAttrs (name: pathsOf declared (path ++ [ name ])) settings)
      );

  # The settings below a path without their properties, and without what a condition takes away.
  plain =
    settings:
    let
      isAbsent = name: isProperty settings.${name} && !(settings.${name}.condition or true);
      absent = builtins.filter isAbsent (builtins.attrNames settings);
    in
    if isProperty settings then
      plain settings.content
    else if builtins.isAttrs settings && !(settings ? outPath) then
      builtins.mapAttrs (_: plain) (builtins.removeAttrs settings absent)
    else
      settings;

  optionsBelow =
    path: options:
    if options._type or null == "option" then
      [ path ]
    else
      builtins.concatLists (
        builtins.attrValues (builtins.mapAttrs (name: optionsBelow (path ++ [ name ])) options)
      );
in
{ modules, arguments }:
let
  open =
    module:
    let
      opened = if builtins.isPath module then import module else module;
      given = arguments // {
        inherit config lib;
      };
      called = if builtins.isFunction opened then opened given else opened;
      isWhole = called ? options || called ? config;
      unset = [ "imports" ];
      one = {
        options = called.options or { };
        config = if isWhole then called.config or { } else builtins.removeAttrs called unset;
      };
    in
    [ one ] ++ builtins.concatMap open (called.imports or [ ]);
  opened = builtins.concatMap open modules;

  mergeAll = ends: builtins.foldl' (merge ends) { };
  options = mergeAll (value: value ? _type) (map (module: module.options) opened);
  paths = optionsBelow [ ] options;
  declared = map show paths;

  definitionsOf =
    path:
    builtins.filter (definition: definition.holds) (
      builtins.concatMap (module: definitionsAt path module.config) opened
    );

  # The value of an option that a module declares.
  valueOf =
    path:
    let
      option = getAt options path;
      definitions = definitionsOf path;
      firm = builtins.filter (definition: !definition.isDefault) definitions;
      chosen = if firm != [ ] then firm else definitions;
      value = (builtins.head chosen).value;
    in
    if chosen == [ ] then
      option.default or (throw "the option ${show path} is used but has no value")
    else if builtins.length chosen > 1 then
      throw "the option ${show path} is defined twice"
    else if !option.type.accepts value then
      throw "the option ${show path} is no ${option.type.name}"
    else
      value;

  set =
    path: value:
    if path == [ ] then value else { ${builtins.head path} = set (builtins.tail path) value; };
  config = mergeAll (value: value ? outPath) (map (path: set path (valueOf path)) paths);

  # What is set of NixOS: a list of all definitions of each of its options.
  settings = builtins.concatMap (
    module:
    map (
      path:
      if builtins.elem (show path) declared then
        [ ]
      else if builtins.elem (show path) ofNixos then
        map (definition: {
          option = show path;
          value = plain definition.value;
        }) (builtins.filter (definition: definition.holds) (definitionsAt path module.config))
      else
        throw "there is no option ${show path}"
    ) (pathsOf declared [ ] module.config)
  ) opened;
in
{
  inherit config options paths;
  settings = builtins.concatLists settings;
}
