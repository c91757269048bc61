"""Runs the README's example: its loss must fall to less than half, and each head's entropy must be possible.

    run_quickstart.py QUICKSTART
"""

import math
import re
import subprocess
import sys

CONTEXT = 32

output = subprocess.run([sys.argv[1]], check=True, capture_output=True, text=True).stdout
print(output, end="")
losses = [float(loss) for loss in re.findall(r"^step +\d+: loss (\S+) nats$", output, re.MULTILINE)]
layers = re.findall(r"^head entropies (.*) nats$", output, re.MULTILINE)
entropies = [float(entropy) for layer in layers for entropy in layer.split()]
if len(losses) < 2 or not losses[-1] < losses[0] / 2:
    sys.exit(f"run_quickstart.py: the loss should fall to less than half, but the losses are {losses}")
most = sum(math.log(i) for i in range(1, CONTEXT + 1)) / CONTEXT
if len(entropies) != 16 or not all(0 <= entropy <= most + 0.01 for entropy in entropies):
    sys.exit(f"run_quickstart.py: 16 entropies between 0 and {most:.2f} nats were expected, got {entropies}")
