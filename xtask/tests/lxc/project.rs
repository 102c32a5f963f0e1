//! A project made for one test, whose scenarios are programs of Python.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use super::common::project_with_template;

pub const MINI: &str = "from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n";

/// A product that is process 1 itself, as in an image of Docker.
pub const APP: &str = "from = \"mini\"\ninit = [\"/bin/sh\", \"/app\"]\n\
                   [[files]]\nsource = \"app\"\ntarget = \"/app\"\nmode = \"0755\"\n";

/// A project of the test's own, whose scenarios are programs of Python on one machine `a`.
pub struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    pub fn new(template: &str) -> Self {
        let folder = project_with_template(template);
        std::fs::remove_dir_all(folder.path().join("scenarios/smoke")).unwrap();
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn template(&self, name: &str, text: &str, app: &str) {
        self.write(&format!("containers/{name}/template.toml"), text);
        self.write(&format!("containers/{name}/app"), app);
    }

    /// A scenario on one machine `a`, with this body.
    pub fn scenario(&self, name: &str, template: &str, more: &str, body: &str) {
        let main = format!(
            "import e2e, os, time\ndef gone(a):\n    try:\n        a.exec(['true'])\n        return False\n    except e2e.RequestError:\n        \
             return True\ndef scenario(lab):\n    a = lab.container('a')\n{body}\ne2e.run(scenario)\n"
        );
        self.write(&format!("scenarios/smoke/{name}/main.py"), &main);
        let manifest = format!(
            "description = \"{name}\"\ncommand = [\"python3\", \"main.py\"]\ntimeout = \"1m\"\n{more}\n[containers.a]\ntemplate = \
             \"{template}\"\n"
        );
        self.write(&format!("scenarios/smoke/{name}/scenario.toml"), &manifest);
    }
}

pub fn case<'a>(record: &'a Value, name: &str) -> &'a Value {
    let wanted = format!("smoke/{name}:default");
    let cases = record["cases"].as_array().unwrap();
    cases.iter().find(|case| case["case"] == wanted).unwrap_or_else(|| panic!("no {wanted} in {record:#}"))
}
