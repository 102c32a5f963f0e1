"""Marks of Mancer's known defects in scenarios written in Python; `mancer.rs` has the same for scenarios in Rust."""

import e2e


def known_defects(lab: e2e.Lab, listed: dict, outcomes: dict) -> None:
    """Marks each listed defect, a name with a part of its failure's text, by the outcome that probes.py has written."""
    lab.check_equal(sorted(outcomes), sorted(listed), "probes.py tries what is listed here")
    for name, failure in listed.items():
        with lab.known_defect(f"mancer-0.1.4/{name}", failing_with=failure) as mark:
            if "failure" in outcomes[name]:
                raise e2e.Error(outcomes[name]["failure"])
            if "observed" in outcomes[name]:
                mark.observed(outcomes[name]["observed"])
