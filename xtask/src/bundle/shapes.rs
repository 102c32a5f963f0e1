//! Shapes of secrets: the text around a secret, or the form of the secret itself. Each shape is one line, with an example that a test uses.

use regex::Captures;

/// Pattern of a quotation mark, written or escaped as in several languages, or of no quotation mark.
const QUOTE: &str = r#"(?:'+\\['\\]*|\\*["']|&quot;|&#34;|&#x27;|&#39;|%22|%27)?"#;

/// Pattern of the gap between two words of a command line; the command line may be a list of strings.
const GAP: &str = r#"(?:[ \t]+|["'][ \t]*,[ \t]*["'])"#;

/// Pattern of the sign between a name and its value.
const IS: &str = r"[ \t]*(?:=>|[=:]|%3[DdAa])[ \t]*";

/// Pattern of a value without quotation marks. Closing brackets at the end do not belong to the value.
const BARE: &str = r#"[^\s"'&;,<>()\[\]{}:=\\][^\s"'&;,\\]*"#;

/// Pattern of a password that is a word of a command line.
const WORD: &str = r#"[^\s"'\\-][^\s"'\\]*"#;

/// Pattern of the ends of names whose values are secret, such as the end of `PGPASSWORD`.
pub const NAMES: &str = "(?:password|passwd|passwort|passphrase|passcode|secret|secret[_-]?id|token|token[_-]?secret|api[_-]?key|\
     access[_-]?key|private[_-]?key|secret[_-]?key|account[_-]?key|signing[_-]?key|encryption[_-]?key|master[_-]?key|\
     license[_-]?key|client[_-]?key[_-]?data|shared[_-]?access[_-]?key|credentials?|_pwd|auth[_-]?key|_auth|authtoken|webhook)";

/// Keywords for [`NAMES`], as in [`Shape::keywords`].
const NAME_KEYWORDS: &str = "pass secret token key credential _pwd _auth webhook";

/// Values after a secret's name that are no secrets: they say that there is none, or describe a secret.
const NO_SECRETS: [&str; 30] = [
    "yes",
    "no",
    "true",
    "false",
    "null",
    "none",
    "nil",
    "undefined",
    "empty",
    "required",
    "missing",
    "invalid",
    "expired",
    "unset",
    "set",
    "unknown",
    "wrong",
    "incorrect",
    "optional",
    "string",
    "bytes",
    "given",
    "not",
    "is",
    "was",
    "has",
    "the",
    "a",
    "an",
    "for",
];

/// Shape by which secrets are found in texts.
pub struct Shape {
    /// Name of the shape in the list of redactions.
    pub kind: &'static str,
    /// Words in lower case, separated by blanks. Only a line with one of them is searched with the pattern, because most lines have none.
    pub keywords: &'static str,
    /// True for a shape whose match may extend over several lines.
    pub spans_lines: bool,
    /// Regular expression; its group `secret` is the part that is removed.
    pub pattern: String,
    /// Additional condition on a match, which a regular expression cannot state.
    pub holds: fn(&Captures<'_>) -> bool,
    /// Text that has the shape. It is composed here, so that a search for secrets does not report this source file.
    #[cfg(test)]
    pub example: String,
    /// Secret part of `example`, which a test expects to be removed.
    #[cfg(test)]
    pub secret: String,
}

/// Line of the table of shapes: kind, keywords, pattern, example. A `@` in the example stands before the secret part, which ends at the
/// next `@` or with the text.
type Line<'a> = (&'static str, &'static str, &'a str, &'a str);

/// Returns patterns of an assignment of a secret to a name, for the quotation marks of several languages; `before` is the pattern of text
/// that may precede the name.
pub fn assignments(name: &str, before: &str) -> [String; 5] {
    let given = format!("{before}{name}{QUOTE}{IS}");
    [
        format!(r#"{given}"(?<secret>(?:[^"\\\n]|\\[^\n])+)"#),
        format!(r#"{given}\\+"(?<secret>[^"\n\\]+)"#),
        // In a text that is quoted for a shell, once or several times.
        format!(r"{given}'+\\['\\]*(?<secret>[^'\\\s][^'\\\n]*)"),
        format!(r"{given}'(?<secret>[^'\n]+)"),
        format!("{given}{QUOTE}(?<secret>{BARE})"),
    ]
}

/// Returns all shapes; shapes with more context come first.
pub fn all() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for (kind, keywords, pattern, example) in lines() {
        let pattern = pattern.replace("{Q}", QUOTE).replace("{GAP}", GAP).replace("{IS}", IS).replace("{WORD}", WORD);
        shapes.push(shape(kind, keywords, pattern, example));
    }
    let examples = [
        "{\"db_password\": \"@hunter2 with \\\"marks\\\"@\"}",
        "said \\\"client_secret\\\":\\\"@hunter2@\\\" there",
        r"sh -c 'DJANGO_SECRET_KEY='\''@dj4ngo key@'\'' run'",
        "AWS_SECRET_ACCESS_KEY='@two words@' x",
        "MYSQL_PWD=@hunter2@ mysql",
    ];
    for (pattern, example) in assignments(&format!("(?i:{NAMES})"), "[A-Za-z0-9_.-]*").into_iter().zip(examples) {
        shapes.push(shape("password or token", NAME_KEYWORDS, pattern, example));
    }
    shapes
}

fn lines() -> Vec<Line<'static>> {
    vec![
        // Headers.
        (
            "authorization",
            "authorization",
            r"(?i)authorization{Q}{IS}{Q}(?:digest|aws4-hmac-sha256|hawk|oauth)\s+(?<secret>[^\r\n]+)",
            "Authorization: Digest @username=\"me\", response=\"6629fae49393\"@",
        ),
        (
            "authorization",
            "authorization",
            r#"(?i)authorization{Q}{IS}{Q}(?:[a-z][a-z0-9-]*[ +]+)?(?<secret>[^\s"',\\<&]+)"#,
            "proxy-authorization=Basic @dXNlcjpwYXNz@",
        ),
        (
            "authorization",
            "bearer",
            r"(?i)\bbearer[ +]+(?<secret>[a-z0-9._~+/-]{8,}=*)",
            "sent bearer @abcdefgh123@ on",
        ),
        (
            "authorization",
            "basic",
            r"(?i)\bbasic[ +]+(?<secret>[a-z0-9+/]{8,}={1,2})",
            "sent basic @dXNlcjpwYXNzd29yZA==@ on",
        ),
        (
            "cookie",
            "cookie",
            r#"(?i)\b(?:set-)?cookie2?{Q}[ \t]*[:=][ \t]*{Q}(?<secret>[^\r\n"'\\<]+)"#,
            "< Set-Cookie: @sid=31d4d96e407aad42; Path=/; HttpOnly",
        ),
        (
            "token in a header",
            "key token auth secret signature",
            r#"(?i)\bx-[a-z-]*(?:key|token|auth|secret|signature)\b{Q}[ \t]*:[ \t]*{Q}(?<secret>[^\s"'\\<,]+)"#,
            "X-Api-Key: @81f2a3c4@",
        ),
        // Addresses.
        (
            "password in an address",
            "// \\/",
            r#"(?i)\b[a-z][a-z0-9+.-]*:(?:\\?/){2}[^\s/:@"'<>\\]*:(?<secret>[^\s/@"'<>]+)@"#,
            "redis://me:@pa55@@db:6379/0",
        ),
        (
            "password in an address",
            "%3a%2f%2f",
            r"(?i)%3A%2F%2F[^\s/:@%&]*%3A(?<secret>[^\s/@&]+?)%40",
            "url=postgres%3A%2F%2Fme%3A@pa55@%40db",
        ),
        (
            "token in an address",
            "token= secret= password= signature= credential= sig= key= auth= pwd= code=",
            r#"(?i)[?&;](?:amp;)?(?:[a-z0-9_.-]*(?:token|secret|password|signature|credential)|sig|key|apikey|api_key|auth|pwd|code)=(?<secret>[^\s&"'<>#\\]{4,})"#,
            "GET /a?x=1&sig=@Zm9vYmFyYmF6@&y=2",
        ),
        (
            "webhook",
            "hooks.slack",
            r"https:(?:\\?/){2}hooks\.slack\.com\\?/(?:services|workflows|triggers)\\?/(?<secret>[A-Za-z0-9+/\\_-]{10,})",
            "https://hooks.slack.com/services/@T0000/B0000/XXXXabcdXXXX",
        ),
        (
            "webhook",
            "webhooks",
            r"https:(?:\\?/){2}(?:canary\.|ptb\.)?discord(?:app)?\.com\\?/api\\?/webhooks\\?/(?<secret>[A-Za-z0-9/\\_-]{10,})",
            "https://discord.com/api/webhooks/@1234567890/abcdefABCDEF",
        ),
        (
            "webhook",
            "webhook.office",
            r"https:(?:\\?/){2}[a-z0-9.-]*webhook\.office\.com\\?/(?<secret>[A-Za-z0-9@/\\_-]{10,})",
            "https://x.webhook.office.com/@webhookb2/1234-abcd/IncomingWebhook/xyz",
        ),
        // Files of credentials.
        (
            ".pgpass",
            ":* :1 :2 :3 :4 :5 :6 :7 :8 :9",
            r#"(?m)(?:^|[\s"'(\[])[A-Za-z*][\w.*-]*:(?:\d{4,5}|\*):[\w*-]+:[A-Za-z_*][\w.*-]*:(?<secret>[^\s"':][^\s"']*)"#,
            "db.internal:5432:orders:me:@hunter2@",
        ),
        (
            "netrc",
            "login",
            r"\b(?:machine\s+\S+|default)\s+login\s+\S+\s+(?:account\s+\S+\s+)?password\s+(?<secret>\S+)",
            "machine db.internal login me password @hunter2@",
        ),
        ("netrc", "password", r"(?m)^\s*password[ \t]+(?<secret>\S+)[ \t]*$", "login me\npassword @hunter2"),
        (
            "docker credentials",
            "auth token",
            r#"(?i){Q}\b(?:auth|identitytoken|registrytoken){Q}[ \t]*:[ \t]*\\*["'](?<secret>[^"'\\\n]{4,})"#,
            "{\"auths\":{\"r.io\":{\"auth\":\"@bWU6cGE1NQ==@\"}}}",
        ),
        (
            "npm credentials",
            "_auth _password",
            r#"_(?:authToken|password|auth)[ \t]*=[ \t]*"?(?<secret>[^\s"]+)"#,
            "//registry.example/:_authToken=@0000-1111@",
        ),
        (
            "kubernetes credentials",
            "client-key-data client-secret id-token refresh-token access-token",
            r"(?i)\b(?:client-key-data|client-secret|id-token|refresh-token|access-token)[ \t]*:[ \t]*(?<secret>\S+)",
            "    client-key-data: @LS0tLS1CRUdJTg==@",
        ),
        (
            "password hash",
            "$1$ $5$ $6$ $7$ $y$ $2 $argon2 $scrypt $pbkdf2",
            r"(?<secret>\$(?:1|5|6|7|y|2[abxy]|argon2(?:i|d|id)|scrypt|pbkdf2[a-z0-9-]*)\$[A-Za-z0-9./$=,+_-]{16,})",
            "root:@$6$saltsalt$Zm9vYmFyYmF6Zm9vYmFyYmF6Zm9v@:19000:0",
        ),
        (
            "password hash",
            "scram-sha-",
            r"(?<secret>SCRAM-SHA-(?:1|256)\$\d+:[A-Za-z0-9+/=$:]{20,})",
            "md @SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy@",
        ),
        // Words of command lines.
        (
            "password of curl",
            "curl",
            r#"(?i)\bcurl\b[^\n]*?{GAP}(?:-[a-z]*u|--user|-U|--proxy-user)(?:{GAP}|=)?["']?[^\s:"'-][^\s:"']*:(?<secret>[^\s"'\\]+)"#,
            "curl -s -u me:@hunter2@ https://a",
        ),
        (
            "password of MySQL",
            "mysql mariadb",
            r#"\b(?:mysql\w*|mariadb[\w-]*){Q}\b[^\n]*?{GAP}-p(?<secret>[^\s"'\\]+)"#,
            "mysql -u root -p@hunter2@ orders",
        ),
        (
            "password of sshpass",
            "sshpass",
            r"\bsshpass{Q}{GAP}-p{GAP}?(?<secret>{WORD})",
            "sshpass -p @hunter2@ ssh me@a",
        ),
        (
            "password of Redis",
            "redis-cli",
            r"\bredis-cli\b[^\n]*?{GAP}(?:-a|--pass){GAP}(?<secret>{WORD})",
            "redis-cli -h db -a @hunter2@ PING",
        ),
        (
            "password of LDAP",
            "ldap",
            r"\bldap(?:search|add|modify|delete|passwd|whoami)\b[^\n]*?{GAP}-w{GAP}?(?<secret>{WORD})",
            "ldapsearch -x -D cn=me -w @hunter2@ uid=a",
        ),
        (
            "password of SMB",
            "smbclient mount.cifs rpcclient",
            r#"\b(?:smbclient|mount\.cifs|rpcclient)\b[^\n]*?{GAP}-U{GAP}?[^\s%"']+%(?<secret>[^\s"'\\]+)"#,
            "smbclient //a/b -U me%@hunter2@",
        ),
        (
            "password of openssl",
            "pass:",
            r"\bpass:(?<secret>[^\s:'\x22]+)",
            "openssl rsa -passin pass:@hunter2@ -in key",
        ),
        (
            "password of chpasswd",
            "chpasswd",
            r#"(?m)[\s"'][a-z_][\w-]*:(?<secret>[^\s:"'|]+)["']?[^\n|]*\|[ \t]*(?:sudo[ \t]+)?chpasswd"#,
            "echo 'me:@hunter2@' | chpasswd",
        ),
        (
            "password of an option",
            "--",
            r"(?i)--[a-z-]*(?:password|passwd|passphrase|secret|token|api-key|access-key|secret-key|credentials?)(?:{GAP}|=)(?<secret>{WORD})",
            "tool --db-password @hunter2@ --verbose",
        ),
        (
            "password of SQL",
            "identified password",
            r#"(?i)\b(?:identified[ \t]+by|(?:encrypted[ \t]+)?password)[ \t]+(?:'+\\['\\]*|\\*'|&#x27;)(?<secret>[^'\n\\&]+)"#,
            "ALTER USER me WITH ENCRYPTED PASSWORD '@hunter2@'",
        ),
        (
            "password of a configuration",
            "requirepass masterauth rootpw bindpw secretkey",
            r"(?im)^\s*(?:requirepass|masterauth|rootpw|bindpw|secretkey)[ \t]+(?<secret>\S+)",
            "requirepass @hunter2",
        ),
        (
            "password of a connection",
            "pwd password",
            r#"(?i);[ \t]*(?:pwd|password)[ \t]*=[ \t]*(?<secret>[^;\s"']+)"#,
            "Server=db;Uid=me;Pwd=@hunter2@;",
        ),
        (
            "password of a field",
            "pass pwd pin",
            r#"(?i)["'](?:pass|pwd|pin)\\*["'][ \t]*:[ \t]*\\*["'](?<secret>[^"'\\\n]+)"#,
            "{\"user\": \"me\", \"pass\": \"@hunter2@\"}",
        ),
        // Tokens that show by themselves what they are.
        (
            "AWS key",
            "akia asia abia acca a3t",
            r"\b(?<secret>(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z2-7]{16})\b",
            "id @AKIAIOSFODNN7EXAMPLE@!",
        ),
        (
            "AWS key",
            "aws",
            r"(?i)aws.{0,40}?[\x22'\s=:>](?<secret>[A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+]|$)",
            "aws: @wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY@",
        ),
        (
            "token of GitHub",
            "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
            r"\b(?<secret>gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})",
            "@ghp_a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1@",
        ),
        (
            "token of GitLab",
            "glpat- gldt- glrt- glptt- glsoat- glcbt- glimt- glft- glagent- gloas-",
            r"\b(?<secret>gl(?:pat|dt|rt|ptt|soat|cbt|imt|ft|agent|oas)-[A-Za-z0-9_.-]{16,})",
            "is @glpat-a1b2c3d4e5f6g7h8i9j0@",
        ),
        (
            "token of Slack",
            "xox xapp-",
            r"\b(?<secret>xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-\d-[A-Za-z0-9-]{10,})",
            "is @xoxb-123456789012-abcdefABCDEF@",
        ),
        (
            "key of Stripe",
            "_live_ _test_ _prod_ whsec_",
            r"\b(?<secret>(?:sk|rk|pk)_(?:live|test|prod)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{16,})",
            "is @sk_live_a1b2c3d4e5f6g7h8@",
        ),
        (
            "key of Google",
            "aiza ya29. gocspx-",
            r"\b(?<secret>AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{16,}|GOCSPX-[A-Za-z0-9_-]{16,})",
            "is @AIzaSyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q@",
        ),
        ("token of npm", "npm_", r"\b(?<secret>npm_[A-Za-z0-9]{30,})", "is @npm_a1b2c3d4e5f6g7h8i9j0a1b2c3d4e5f6g7h8@"),
        (
            "token of PyPI",
            "pypi-",
            r"\b(?<secret>pypi-[A-Za-z0-9_-]{40,})",
            "is @pypi-AgEIcHlwaS5vcmcCJGExYjJjM2Q0ZTVmNmc3aDhpOWow@",
        ),
        (
            "token of a package registry",
            "rubygems_ dckr_ oy2 cio",
            r"\b(?<secret>rubygems_[a-f0-9]{40,}|dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}|oy2[a-z0-9]{43}|cio[A-Za-z0-9]{32})\b",
            "is @dckr_pat_a1b2c3d4e5f6g7h8i9j0@",
        ),
        (
            "JSON web token",
            "eyj",
            r"\b(?<secret>eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)",
            "is @eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl@",
        ),
        (
            "key of an AI service",
            "sk- hf_",
            r"\b(?<secret>sk-(?:ant-|proj-|svcacct-|or-v1-)?[A-Za-z0-9_-]{24,}|hf_[A-Za-z0-9]{30,})",
            "is @sk-proj-a1b2c3d4e5f6g7h8i9j0a1b2@",
        ),
        (
            "key of SendGrid",
            "sg.",
            r"\b(?<secret>SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,})",
            "is @SG.a1b2c3d4e5f6g7h8i9j0.a1b2c3d4e5f6g7h8i9j0@",
        ),
        ("key of Twilio", "sk ac", r"\b(?<secret>(?:SK|AC)[0-9a-f]{32})\b", "is @SK0123456789abcdef0123456789abcdef@"),
        ("key of Mailgun", "key-", r"\b(?<secret>key-[0-9a-f]{32})\b", "is @key-0123456789abcdef0123456789abcdef@"),
        (
            "token of Telegram",
            ":aa",
            r"(?:\b|bot)(?<secret>\d{8,10}:AA[A-Za-z0-9_-]{32,})",
            "bot@123456789:AAa1b2c3d4e5f6g7h8i9j0a1b2c3d4e5f6g@",
        ),
        (
            "key of Azure",
            "accountkey= sharedaccess",
            r"(?i)\b(?:AccountKey|SharedAccessKey|SharedAccessSignature)=(?<secret>[^\s;\x22']+)",
            "AccountName=a;AccountKey=@Zm9vYmFyYmF6cXV4==@;x=y",
        ),
        (
            "token of Vault",
            "hvs. hvb. hvr.",
            r"\b(?<secret>hv[sbr]\.[A-Za-z0-9_-]{20,})",
            "is @hvs.a1b2c3d4e5f6g7h8i9j0a1b2@",
        ),
        (
            "token of Terraform",
            ".atlasv1.",
            r"\b(?<secret>[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{40,})",
            "is @a1b2c3d4e5f6g7.atlasv1.a1b2c3d4e5f6g7h8i9j0a1b2c3d4e5f6g7h8i9j0a1b2@",
        ),
        (
            "token of a service",
            "dop_v1_ doo_v1_ dor_v1_ shpat_ shpca_ shppa_ shpss_ sq0csp- sq0atp- glsa_ nrak- atatt3 hrku- pmak- pul- figd_ tskey- sbp_ lin_api_ dp.pt. dt0c01. ntn_ phx_ fio-u- rdme_ xkeysib- sntrys_ eaaa",
            r"\b(?<secret>(?:do[por]_v1_|shp(?:at|ca|pa|ss)_|sq0(?:csp|atp)-|glsa_|NRAK-|ATATT3|HRKU-|PMAK-|pul-|figd_|tskey-|sbp_|lin_api_|dp\.pt\.|dt0c01\.|ntn_|phx_|fio-u-|rdme_|xkeysib-|sntrys_|EAAA)[A-Za-z0-9_.=-]{24,})",
            "is @dop_v1_0123456789abcdef0123456789abcdef@",
        ),
        (
            "age key",
            "age-secret-key-",
            r"\b(?<secret>AGE-SECRET-KEY-1[A-Z0-9]{20,})",
            "@AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQ@",
        ),
    ]
}

#[cfg_attr(not(test), expect(unused_variables, reason = "only tests have examples"))]
fn shape(kind: &'static str, keywords: &'static str, pattern: String, example: &str) -> Shape {
    Shape {
        kind,
        keywords,
        spans_lines: kind == "netrc" && keywords == "login",
        pattern,
        holds: match kind {
            "password or token"
            | "token in a header"
            | "authorization"
            | "cookie"
            | "netrc"
            | "password of an option" => |found| found.name("secret").is_some_and(|secret| is_told(secret.as_str())),
            ".pgpass" | "AWS key" => |found| {
                !is_hexadecimal(found.get(0).map_or("", |whole| whole.as_str().trim()))
                    && found.name("secret").is_some_and(|secret| !is_hexadecimal(secret.as_str()) || secret.len() < 32)
            },
            _ => |_| true,
        },
        #[cfg(test)]
        example: example_of(example).0,
        #[cfg(test)]
        secret: example_of(example).1,
    }
}

/// Tells whether a value may be a secret: it is not in [`NO_SECRETS`], and does not consist of characters such as `*`.
fn is_told(value: &str) -> bool {
    let value = value.trim_end_matches(['.', ')', ']', '}', '>', '!', '?']);
    !value.is_empty()
        && !NO_SECRETS.iter().any(|word| value.eq_ignore_ascii_case(word))
        && !value.chars().all(|c| "*.-_#".contains(c))
}

/// Tells whether a text consists of hexadecimal digits and colons, as a hash, a MAC address or an IPv6 address does.
fn is_hexadecimal(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_hexdigit() || c == ':')
}

/// Returns the example without its marks, and its secret part, which is between the two marks, or between the only mark and the end.
#[cfg(test)]
fn example_of(marked: &str) -> (String, String) {
    let begin = marked.find('@').expect("a mark");
    let rest = &marked[begin + 1..];
    let (secret, after) = match rest.find('@') {
        // A password may stand before the mark of an address.
        Some(end) => (&rest[..end], &rest[end + 1..]),
        None => (rest, ""),
    };
    (format!("{}{secret}{after}", &marked[..begin]), secret.to_owned())
}
