"""Every request of the checks comes from an address of its own.

Wrong tokens are counted by address, and schemathesis sends one to each operation: from a single
address the tenth would shut the door for the rest of the run.
"""

import ipaddress
import itertools

import schemathesis

addresses = (ipaddress.IPv4Address(0x0A000000 + n) for n in itertools.count(1))


@schemathesis.hook
def before_call(context, case, kwargs):
    case.headers["X-Forwarded-For"] = str(next(addresses))
