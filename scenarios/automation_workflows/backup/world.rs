//! Data to save, as it is on the machines that hold it: the database, the folder and the configuration file. No code here reads a backup.

use anyhow::{Context as _, ensure};
use common::differences::differences;
use common::postgres::psql;
use e2e::{Access, Container, Lab, check};

const NONE: &[String] = &[];
const CONFIG: &str = "/etc/shop/shop.ini";
pub const CONFIG_TEXT: &str = "[shop]\nname = Zoë's\nslogan = 100 % \\ \"fresh\" $(today)\n";
/// Tables with their numbers of rows, as `schema.sql` makes them.
const ROWS: [&str; 4] =
    [r#"table "In-Box": 0 rows"#, "table customers: 2000 rows", "table ledger: 500 rows", "table orders: 20000 rows"];

/// Machines that hold the data: two before it is deleted, one after it was restored.
#[derive(Debug)]
pub struct Place<'a> {
    pub database: &'a Container,
    pub files: &'a Container,
    /// Folder on `files` that holds the tree `archive`, such as `/srv/data`.
    pub parent: &'a str,
}

impl Place<'_> {
    /// Makes the data to save.
    pub fn fill(&self, lab: &Lab) -> e2e::Result {
        self.database.put(lab.fixture("schema.sql"), "/srv/schema.sql")?;
        psql(self.database, "postgres", "CREATE DATABASE shop OWNER mancer LOCALE 'C' TEMPLATE template0")?;
        psql(self.database, "shop", r"\i /srv/schema.sql")?;
        self.database.write_with(CONFIG, CONFIG_TEXT, Access::mode(0o640).owner("root:mancer"))?;
        self.files.put(lab.fixture("tree.py"), "/tmp/tree.py")?;
        self.files.exec(["python3", "/tmp/tree.py", &self.archive()])?.success()?;
        Ok(())
    }

    /// Deletes all of the data, and checks that it is gone.
    pub fn destroy(&self) -> e2e::Result {
        psql(self.database, "postgres", "DROP DATABASE shop WITH (FORCE)")?;
        psql(self.database, "postgres", "DROP ROLE auditor")?;
        self.database.exec(["rm", "-r", CONFIG])?.success()?;
        self.files.exec(["rm", "-r", &self.archive()])?.success()?;
        self.check_nothing()
    }

    /// Checks that none of the data exists.
    pub fn check_nothing(&self) -> e2e::Result {
        let query = "SELECT datname FROM pg_database WHERE datname = 'shop' UNION SELECT rolname FROM pg_roles \
                     WHERE rolname = 'auditor'";
        let mut left = psql(self.database, "postgres", query)?;
        left += self.database.sh(format!("ls -d {CONFIG} 2> /dev/null || true"))?.success()?.stdout_text()?;
        left += self.files.sh(format!("ls -d {} 2> /dev/null || true", self.archive()))?.success()?.stdout_text()?;
        check!(left == "", "nothing that was saved is on {}", self.database.name());
        Ok(())
    }

    /// Checks the folder against `tree.txt`, the configuration file, and the numbers of rows; returns the content of the database as
    /// lines.
    pub fn check_all(&self, lab: &Lab) -> e2e::Result<Vec<String>> {
        let name = self.database.name();
        let tree = std::fs::read_to_string(lab.fixture("tree.txt")).context("reading tree.txt")?;
        let tree: Vec<String> = tree.lines().map(str::to_owned).collect();
        let found = listing(self.files, &self.archive())?;
        lab.artifact(format!("tree-{}.txt", self.files.name()), found.join("\n") + "\n")?;
        let wrong = differences(&tree, &found);
        check!(wrong == NONE, "content, mode, owner, time and links of each file on {}", self.files.name());

        let text = String::from_utf8(self.database.get(CONFIG)?)?;
        check!(text == CONFIG_TEXT, "the configuration file on {name}");
        let access = self.database.exec(["stat", "-c", "%a %U:%G", CONFIG])?.success()?;
        let access = access.stdout_text()?.trim();
        check!(access == "640 root:mancer", "the configuration file on {name}");

        self.database.put(lab.fixture("look.sql"), "/srv/look.sql")?;
        let look = psql(self.database, "shop", r"\i /srv/look.sql")?;
        let mut database: Vec<String> = look.lines().map(str::to_owned).collect();
        database.sort();
        lab.artifact(format!("database-{name}.txt"), database.join("\n") + "\n")?;
        let counts = database.iter().filter(|line| line.starts_with("table "));
        let counts: Vec<&str> = counts.filter_map(|line| line.split(',').next()).collect();
        check!(counts == ROWS, "how many rows there are on {name}");
        Ok(database)
    }

    fn archive(&self) -> String {
        format!("{}/archive", self.parent)
    }
}

/// Lists all files below a folder, a line each: kind, mode, owner, number of hard links, time, name, target of a link, checksum of a
/// file. The number of links of a folder is left out, since it depends on the file system. Bytes other than ASCII are escaped.
fn listing(machine: &Container, folder: &str) -> e2e::Result<Vec<String>> {
    let find = ["find", folder, "-printf", r"%y\0%m\0%U:%G\0%n\0%Ts\0%P\0%l\0"];
    let found = machine.exec(find)?.success()?;
    let fields: Vec<&[u8]> = found.stdout().strip_suffix(b"\0").unwrap_or_default().split(|byte| *byte == 0).collect();
    ensure!(fields.len().is_multiple_of(7), "find printed {} fields, not 7 for each file", fields.len());
    let sums = machine.exec(["find", folder, "-type", "f", "-exec", "sha256sum", "--zero", "{}", "+"])?.success()?;
    let sum_of = |name: &[u8]| {
        let ending = [b"  ".as_slice(), folder.as_bytes(), b"/", name].concat();
        sums.stdout().split(|byte| *byte == 0).find_map(|line| line.strip_suffix(ending.as_slice()))
    };
    let mut lines = Vec::new();
    for entry in fields.chunks(7) {
        let [kind, mode, owner, names, time, name, target] = entry else { continue };
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let mut line: Vec<String> = [kind, mode, owner].map(|field| text(field)).to_vec();
        line.push(if *kind == b"d" { "-".to_owned() } else { text(names) });
        line.extend([text(time), if name.is_empty() { ".".to_owned() } else { text(name) }]);
        match *kind {
            b"l" => line.push(format!("-> {}", text(target))),
            b"f" => line.push(format!("= {}", text(sum_of(name).context("find listed a file that has no checksum")?))),
            _ => {}
        }
        lines.push(line.join(" "));
    }
    lines.sort();
    Ok(lines)
}
