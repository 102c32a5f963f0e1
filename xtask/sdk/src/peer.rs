//! Imitation of the engine for tests, which answers a scenario's requests on a real socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;

use e2e_contract::{ContainerInfo, PROTOCOL_VERSION, Request, Response, RpcError, Welcome};
use serde_json::{Value, json};

/// Welcomes a scenario and answers its requests one after the other, until the scenario closes the socket.
pub fn serve(socket: UnixStream, mut answer: impl FnMut(&Request) -> Result<Value, RpcError>) {
    let mut writer = socket.try_clone().unwrap();
    for line in BufReader::new(socket).lines() {
        let request: Request = serde_json::from_str(&line.unwrap()).unwrap();
        let result = if request.method == "hello" {
            assert_eq!(request.params, json!({"protocol": PROTOCOL_VERSION}));
            Ok(serde_json::to_value(welcome()).unwrap())
        } else {
            answer(&request)
        };
        let response = match result {
            Ok(result) => Response::success(request.id, result),
            Err(error) => Response::failure(Some(request.id), error),
        };
        let line = serde_json::to_string(&response).unwrap() + "\n";
        if writer.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

fn welcome() -> Welcome {
    let container = |name: &str, last| ContainerInfo {
        name: name.into(),
        host_name: format!("mancer-e2e-{name}"),
        address: Ipv4Addr::new(10, 77, 0, last),
        template: name.into(),
    };
    let Value::Object(params) = json!({"rows": 20_000, "kind": "orders"}) else { unreachable!() };
    Welcome {
        scenario: "smoke/peer".into(),
        case: "large".into(),
        params,
        containers: vec![container("app", 11), container("db", 12)],
        fixtures: "/fixtures".into(),
        artifacts: "/artifacts".into(),
        stack_file: "/artifacts/stacks-at-timeout.txt".into(),
        defects_only: false,
    }
}
