"""An operations command whose `up` looks for nothing beforehand: what the preflight's share is measured against.

python -m benchmarks.unguarded up --stack STACK --yes
"""

from operations.__main__ import main
from operations.deployment import Deployment
from operations.preflight import Preflight


def _nothing(self: Deployment) -> Preflight:
    return Preflight([], {})


if __name__ == "__main__":
    Deployment.preflight = _nothing
    main()
