"""``python -m inspo_core.tracking deliver``: send to MLflow what stages could not."""

import argparse
import sys

from inspo_core.errors import InspoError, warn
from inspo_core.project import project_root
from inspo_core.tracking.handover import deliver_left
from inspo_core.tracking.mlflow.delivery import Delivery
from inspo_core.tracking.mlflow.server import Unreachable


def main(arguments: list[str] | None = None) -> int:
    """Deliver the outbox. Returns 0 when nothing is left but the journals of stages that are running, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m inspo_core.tracking", description="Records of stages that MLflow has not got yet.")
    what = "send outbox/, and what machines left in INSPO_STORE, to MLFLOW_TRACKING_URI, or to mlflow.db without it"
    parser.add_argument("command", choices=["deliver"], help=what)
    parser.parse_args(arguments)
    delivery, outbox = Delivery(warn), project_root() / "outbox"
    try:
        running, left = delivery.send_outbox(outbox)
        left += deliver_left(delivery)
    except Unreachable as error:
        print(f"error: MLflow at {delivery.place} takes no records ({error}); they stay in {outbox}", file=sys.stderr)
        return 1
    except InspoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if left:
        print(f"error: not delivered: {', '.join(left)}", file=sys.stderr)
        return 1
    print(f"outbox delivered to {delivery.place}" + (f"; still running: {', '.join(running)}" if running else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
