//! Known defects of Mancer 0.1.4 in calls that a monitor makes first; `fixtures/probes.py` makes these calls.

/// Known defects by name, with a part of the text of each failure. `scenarios/DEFECTS.md` describes them.
pub const DEFECTS: &[(&str, &str)] = &[
    ("df-filesystem", "df of one file system gave others too"),
    ("df-mount-point", "no row of df has the mount_point /var/lib/postgresql"),
    ("df-table", "df as a DataFrame: None, success=False"),
    ("inspector-drops-options", "connected with the profile's ssh_options, and then not one unit"),
    ("inspector-failed-unit", "doomed.service has failed; failed units are []"),
    ("systemctl-legend", "words of systemctl's legend as units: ['ACTIVE', 'LOAD', 'SUB']"),
    ("inspector-stopped-unit", "the status of systemd-tmpfiles-clean.service, which is known and stopped, is None"),
    ("logger-threads", "of two threads one got IndexError from its first command"),
    ("ps-columns", "' in the row and '"),
    ("ps-search", "error: process ID list syntax error"),
    ("remote-cache", "'RemoteHostInfo' object has no attribute 'hostname'"),
    ("systemd-service-units", "Błąd pobierania pliku: Host key verification failed"),
    ("with-data-format", "df with_data_format(DATAFRAME) gave a list"),
];
